"""What the tenant whose host this is has redacted; its owners and admins may change it."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest

from agents.guard.detectors import KINDS
from realtime.privacy.models import RedactionPolicy
from realtime.privacy.redaction_policy import change_redaction
from tenants.admin_site import TenantModelAdmin


class PolicyForm(forms.ModelForm):
    kinds = forms.MultipleChoiceField(
        choices=list(KINDS.items()),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="What transcripts hold only the name of. Holds for calls that begin from now on.",
    )

    class Meta:
        model = RedactionPolicy
        fields = ["kinds", "silence_recordings"]


@admin.register(RedactionPolicy)
class RedactionPolicyAdmin(TenantModelAdmin):
    form = PolicyForm
    may_change = True
    list_display = ["__str__", "kinds", "silence_recordings"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.in_scope(request) and not RedactionPolicy.objects.exists()

    def save_model(self, request: HttpRequest, obj: RedactionPolicy, form: Any, change: bool) -> None:
        policy = change_redaction(kinds=obj.kinds, silence_recordings=obj.silence_recordings)
        obj.pk, obj.kinds = policy.pk, policy.kinds

    def log_addition(self, request: HttpRequest, obj: RedactionPolicy, message: Any) -> None:
        """The audit log has it. Admin's own is shared between tenants, and this row has the same id in each."""

    def log_change(self, request: HttpRequest, obj: RedactionPolicy, message: Any) -> None:
        """As above."""
