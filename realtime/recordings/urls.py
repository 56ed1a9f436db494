from django.urls import path

from realtime.recordings import api

urlpatterns = [
    path("recordings/", api.Recordings.as_view(), name="recordings"),
    path("recordings/<str:session_id>/", api.OneRecording.as_view(), name="recording"),
    path("recordings/<str:session_id>/content/", api.RecordingContent.as_view(), name="recording-content"),
    path("recording-policy/", api.RecordingPolicy.as_view(), name="recording-policy"),
]
