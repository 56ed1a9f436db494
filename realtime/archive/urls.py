from django.urls import path

from realtime.archive import api

urlpatterns = [
    path("conversations/", api.Conversations.as_view(), name="conversations"),
    path("conversations/<str:session_id>/", api.OneConversation.as_view(), name="conversation"),
    path("conversations/<str:session_id>/items/", api.Items.as_view(), name="conversation_items"),
]
