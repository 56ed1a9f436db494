from django.apps import AppConfig


class PricesConfig(AppConfig):
    name = "tenants.prices"
    label = "prices"
    verbose_name = "Prices"
