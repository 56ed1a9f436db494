"""The price book. Prices that hold are never changed: a new one begins on a later day."""

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from tenants.admin_site import PlatformModelAdmin
from tenants.errors import TenancyError
from tenants.prices.models import Price, StripeCustomer
from tenants.prices.operations import set_price, withdraw_price


class PriceForm(forms.ModelForm):
    class Meta:
        model = Price
        fields = ["tenant", "meter", "provider", "model", "currency", "amount", "per", "effective_from"]

    def _post_clean(self) -> None:
        """Last of all the operation decides; what it refuses is shown at its field."""
        super()._post_clean()
        if not self.errors:
            try:
                self.made = set_price(**self.cleaned_data)
            except TenancyError as error:
                self.add_error(error.param if error.param in self.fields else None, error.message)


@admin.register(Price)
class PriceAdmin(PlatformModelAdmin):
    form = PriceForm
    may_add = True
    list_display = ["meter", "provider", "model", "amount", "currency", "per", "effective_from", "tenant"]
    list_select_related = ["tenant"]
    list_filter = ["meter", "currency", "tenant"]
    search_fields = ["provider", "model", "tenant__name"]
    date_hierarchy = "effective_from"
    actions = ["withdraw"]
    list_per_page = 50

    def save_model(self, request: HttpRequest, obj: Price, form: PriceForm, change: bool) -> None:
        obj.__dict__.update(form.made.__dict__)

    @admin.action(description="Withdraw prices that have not begun")
    def withdraw(self, request: HttpRequest, prices: QuerySet[Price]) -> HttpResponse | None:
        if question := self.confirmed(request, prices, "Withdraw these prices?"):
            return question
        for price in prices:
            try:
                withdraw_price(price=price)
            except TenancyError as error:
                messages.error(request, f"{price}: {error.message}")
            else:
                messages.success(request, f"{price} is withdrawn.")
        return None


@admin.register(StripeCustomer)
class StripeCustomerAdmin(PlatformModelAdmin):
    list_display = ["tenant", "customer_id", "metered_from"]
    list_select_related = ["tenant"]
    search_fields = ["customer_id", "tenant__name"]
    list_per_page = 50
