from django.urls import path

from tenants.lifecycle import api

urlpatterns = [
    path("tenant/", api.OwnTenant.as_view(), name="own_tenant"),
    path("tenants/", api.Tenants.as_view(), name="tenants"),
    path("tenants/<slug:slug>/", api.OneTenant.as_view(), name="tenant"),
    path("tenants/<slug:slug>/suspend/", api.Suspension.as_view(), name="tenant_suspend"),
    path("tenants/<slug:slug>/resume/", api.Resumption.as_view(), name="tenant_resume"),
    path("tenants/<slug:slug>/retry/", api.Retry.as_view(), name="tenant_retry"),
    path("tenants/<slug:slug>/delete/", api.Deletion.as_view(), name="tenant_delete"),
    path("tenants/<slug:slug>/undelete/", api.Undeletion.as_view(), name="tenant_undelete"),
    path("tenants/<slug:slug>/certificate/", api.Certificate.as_view(), name="tenant_certificate"),
    path("plans/", api.Plans.as_view(), name="plans"),
    path("plans/<slug:slug>/", api.OnePlan.as_view(), name="plan"),
]
