from django.urls import path

from tenants.audit import api

urlpatterns = [
    path("audit/", api.AuditLog.as_view(), name="audit"),
    path("audit.csv", api.AuditCsv.as_view(), name="audit-csv"),
    path("audit.jsonl", api.AuditJsonLines.as_view(), name="audit-json-lines"),
    path("platform/audit/", api.PlatformAuditLog.as_view(), name="platform-audit"),
    path("platform/audit.csv", api.PlatformAuditCsv.as_view(), name="platform-audit-csv"),
]
