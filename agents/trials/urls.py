from django.urls import path

from agents.trials import api

urlpatterns = [
    path("agents/<slug:slug>/trials/", api.Trials.as_view(), name="agent_trials"),
    path("agents/<slug:slug>/trials/<uuid:trial_id>/", api.OneTrial.as_view(), name="agent_trial"),
    path("agents/<slug:slug>/trials/<uuid:trial_id>/end/", api.EndOfTrial.as_view(), name="agent_trial_end"),
    path("agents/<slug:slug>/releases/", api.Releases.as_view(), name="agent_releases"),
]
