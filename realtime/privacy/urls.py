from django.urls import path

from realtime.privacy import api, redaction_api

urlpatterns = [
    path("privacy/exports/", api.Exports.as_view(), name="end-user-exports"),
    path("privacy/exports/<uuid:export_id>/", api.OneExport.as_view(), name="end-user-export"),
    path("privacy/exports/<uuid:export_id>/file/", api.ExportFile.as_view(), name="end-user-export-file"),
    path("privacy/erasures/", api.Erasures.as_view(), name="erasures"),
    path("privacy/erasures/<uuid:erasure_id>/", api.OneErasure.as_view(), name="erasure"),
    path("privacy/holds/", api.Holds.as_view(), name="legal-holds"),
    path("privacy/holds/<uuid:hold_id>/", api.OneHold.as_view(), name="legal-hold"),
    path("redaction-policy/", redaction_api.RedactionPolicyView.as_view(), name="redaction-policy"),
    path("conversations/<str:session_id>/hold/", api.ConversationHold.as_view(), name="conversation-hold"),
]
