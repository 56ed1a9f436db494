from django.apps import AppConfig


class LimitsConfig(AppConfig):
    name = "tenants.limits"
    label = "limits"
