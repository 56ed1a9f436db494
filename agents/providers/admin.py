"""Providers of the tenant whose host this is; its owners and admins may change them. Credentials go in, never out."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from agents.providers.kinds import NAMES
from agents.providers.models import Provider
from agents.providers.operations import (
    FIELDS,
    ProviderInUse,
    ProviderInvalid,
    create_provider,
    delete_provider,
    update_provider,
)
from tenants.admin_site import TenantModelAdmin


class ProviderForm(forms.ModelForm):
    """One field for each credential; an empty one leaves what is there."""

    class Meta:
        model = Provider
        fields = FIELDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in self.instance.credentials_set:
            self.fields[name].help_text = "There is one; write another to replace it."

    def _post_clean(self) -> None:
        """Last of all the operation decides; what it refuses is shown at its field."""
        known = Provider.objects.filter(pk=self.instance.pk).first()
        super()._post_clean()
        if self.errors:
            return
        sent = {name: self.cleaned_data[name] for name in NAMES if self.cleaned_data[name]}
        fields = {name: self.cleaned_data[name] for name in FIELDS}
        try:
            if known is None:
                self.made = create_provider(credentials=sent, **fields)
            else:
                self.made = update_provider(provider=known, credentials=sent or None, **fields)
        except ProviderInvalid as error:
            for name, words in error.errors.items():
                self.add_error(name if name in self.fields else None, words)
        except ProviderInUse as error:
            self.add_error("name", error.message)


for _name in NAMES:
    _secret = forms.CharField(required=False, strip=True, widget=forms.PasswordInput(attrs={"autocomplete": "off"}))
    ProviderForm.base_fields[_name] = ProviderForm.declared_fields[_name] = _secret


@admin.register(Provider)
class ProviderAdmin(TenantModelAdmin):
    form = ProviderForm
    fields = [*FIELDS, *NAMES]
    may_add = may_change = may_delete = True
    list_display = ["name", "kind", "model", "is_enabled", "updated_at"]
    search_fields = ["name"]
    list_filter = ["kind", "is_enabled"]
    list_per_page = 50
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        return super().get_queryset(request).defer("credentials")

    def save_model(self, request: HttpRequest, obj: Provider, form: ProviderForm, change: bool) -> None:
        obj.__dict__.update(form.made.__dict__)

    def delete_model(self, request: HttpRequest, obj: Provider) -> None:
        try:
            delete_provider(provider=obj)
        except ProviderInUse as error:
            self.message_user(request, error.message, messages.ERROR)
