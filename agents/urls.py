from django.urls import path

from agents import api, voices

urlpatterns = [
    path("agents/", api.Agents.as_view(), name="agents"),
    path("agents/<slug:slug>/", api.OneAgent.as_view(), name="agent"),
    path("agents/<slug:slug>/versions/", api.AgentVersions.as_view(), name="agent_versions"),
    path("agents/<slug:slug>/versions/<int:number>/", api.OneAgentVersion.as_view(), name="agent_version"),
    path("agents/<slug:slug>/diff/", api.AgentDiff.as_view(), name="agent_diff"),
    path("agents/<slug:slug>/publish/", api.AgentPublication.as_view(), name="agent_publish"),
    path("agents/<slug:slug>/activate/", api.AgentActivation.as_view(), name="agent_activate"),
    path("agents/<slug:slug>/rollback/", api.AgentRollback.as_view(), name="agent_rollback"),
    path("agents/<slug:slug>/draft/", api.AgentDraft.as_view(), name="agent_draft"),
    path("agents/<slug:slug>/export/", api.AgentExport.as_view(), name="agent_export"),
    path("agents/<slug:slug>/apply/", api.AgentApplication.as_view(), name="agent_apply"),
    path("voices/", voices.Voices.as_view(), name="voices"),
    path("voices/<str:voice>/", voices.OneVoice.as_view(), name="voice"),
]
