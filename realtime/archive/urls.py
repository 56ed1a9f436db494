from django.urls import path

from realtime.archive import api

urlpatterns = [
    path("conversations/", api.Conversations.as_view(), name="conversations"),
    path("conversations/<str:session_id>/", api.OneConversation.as_view(), name="conversation"),
]
