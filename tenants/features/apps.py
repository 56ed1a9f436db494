from django.apps import AppConfig


class FeaturesConfig(AppConfig):
    name = "tenants.features"
    label = "features"
