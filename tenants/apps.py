from django.apps import AppConfig
from django.contrib.admin import apps as admin


class TenantsConfig(AppConfig):
    name = "tenants"
    default = True

    def ready(self) -> None:
        from tenants import openapi  # noqa: F401  (registers the ways to sign in with drf-spectacular)
        from tenants.people import receivers  # noqa: F401  (hears of sign-ins)


class TenantAdminConfig(admin.AdminConfig):
    """Django's admin, with this project's rule of who may enter on which host."""

    default_site = "tenants.admin_site.TenantAdminSite"
    default = False
