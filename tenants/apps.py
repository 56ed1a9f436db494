from django.apps import AppConfig
from django.contrib.admin import apps as admin


class TenantsConfig(AppConfig):
    name = "tenants"
    default = True

    def ready(self) -> None:
        from tenants import openapi  # noqa: F401  (registers the key scheme with drf-spectacular)


class TenantAdminConfig(admin.AdminConfig):
    """Django's admin, with this project's rule of who may enter on which host."""

    default_site = "tenants.admin_site.TenantAdminSite"
    default = False
