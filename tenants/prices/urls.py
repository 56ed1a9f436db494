from django.urls import path

from tenants.prices import api

urlpatterns = [
    path("prices/", api.Prices.as_view(), name="prices"),
    path("prices/<int:identity>/", api.OnePrice.as_view(), name="price"),
    path("tenants/<slug:slug>/stripe/", api.StripeCustomerOf.as_view(), name="stripe_customer"),
]
