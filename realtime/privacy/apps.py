from django.apps import AppConfig


class PrivacyConfig(AppConfig):
    name = "realtime.privacy"
    label = "privacy"
    verbose_name = "Data protection"
