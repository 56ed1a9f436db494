from django.apps import AppConfig


class AgentVoiceBoxConfig(AppConfig):
    name = "agentvoicebox"

    def ready(self) -> None:
        from agentvoicebox import metrics

        metrics.observe_postgres()
        metrics.observe_redis()
