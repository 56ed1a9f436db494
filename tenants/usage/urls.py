from django.urls import path

from tenants.usage import api

urlpatterns = [
    path("usage/", api.Report.as_view(), name="usage"),
    path("usage/calls/", api.Calls.as_view(), name="usage-calls"),
    path("usage.csv", api.UsageCsv.as_view(), name="usage-csv"),
    path("budgets/", api.Budgets.as_view(), name="budgets"),
    path("budgets/<uuid:identity>/", api.OneBudget.as_view(), name="budget"),
]
