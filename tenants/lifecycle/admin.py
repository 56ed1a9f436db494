"""Tenants in the platform's admin: made, changed, suspended and deleted by the same operations as over REST."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminTextareaWidget

from tenants.errors import TenancyError
from tenants.lifecycle import operations, plans
from tenants.lifecycle.domains import check_domains
from tenants.lifecycle.queue import ask_for_build
from tenants.models import Plan, Tenant


class TenantForm(forms.ModelForm):
    domains = forms.CharField(
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        required=False,
        help_text="Host names of its pages, one per line.",
    )

    class Meta:
        model = Tenant
        fields = ["slug", "name", "plan", "limits"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            hosts = self.instance.domains.order_by("-is_primary", "id").values_list("domain", flat=True)
            self.initial["domains"] = "\n".join(hosts)

    def clean_slug(self) -> str:
        slug = self.cleaned_data["slug"]
        _refused(lambda: operations.check_slug(slug))
        return slug

    def clean_limits(self) -> dict[str, Any]:
        limits = self.cleaned_data["limits"] or {}
        _refused(lambda: plans.check_limits(limits, "limits"))
        return limits

    def clean_domains(self) -> list[str]:
        hosts = self.cleaned_data["domains"].split()
        owner = self.instance if self.instance.pk else None
        _refused(lambda: check_domains(hosts, owner=owner))
        return hosts


class PlanForm(forms.ModelForm):
    class Meta:
        model = Plan
        fields = ["slug", "name", "limits"]

    def clean_limits(self) -> dict[str, Any]:
        limits = self.cleaned_data["limits"] or {}
        _refused(lambda: plans.check_limits(limits, "limits"))
        return limits


class SuspensionForm(forms.Form):
    reason = forms.CharField(max_length=operations.REASON_CHARACTERS, help_text="Why; it is kept and audited.")


class DeletionForm(forms.Form):
    confirmation = forms.CharField(help_text="The tenant's slug, typed again.")
    reason = forms.CharField(max_length=operations.REASON_CHARACTERS, required=False)
    grace_days = forms.IntegerField(
        min_value=0,
        max_value=operations.GRACE_DAYS_MAX,
        required=False,
        help_text="Days until it is erased; when empty, the platform's.",
    )


class LifecycleAdmin:
    """For the tenants' ModelAdmin, before its base."""

    form = TenantForm
    may_add = may_change = True
    actions = ["suspend", "resume", "retry", "delete_tenant", "undelete"]
    readonly_fields = [
        "status", "status_reason", "status_changed_at", "delete_after", "progress", "work_error", "schema_name",
        "created_at",
    ]  # fmt: skip
    fields = ["slug", "name", "plan", "limits", "domains", *readonly_fields]

    @admin.display(description="progress")
    def progress(self, tenant: Tenant) -> str:
        if not tenant.work_total:
            return "–"
        return f"{tenant.work_done}/{tenant.work_total} {tenant.work_step}".rstrip()

    def get_readonly_fields(self, request: HttpRequest, obj: Tenant | None = None) -> list[str]:
        return [*self.readonly_fields, *(["slug"] if obj else [])]

    def save_model(self, request: HttpRequest, obj: Tenant, form: TenantForm, change: bool) -> None:
        fields = {name: form.cleaned_data[name] for name in ("name", "plan", "limits", "domains")}
        fields["plan"] = fields["plan"].slug if fields["plan"] else None
        if change:
            changed = {name: value for name, value in fields.items() if name in form.changed_data}
            operations.update_tenant(tenant=obj, **changed)
            return
        made = operations.request_tenant(slug=obj.slug, **fields)
        ask_for_build(made)
        obj.__dict__.update(made.__dict__)

    @admin.action(description="Suspend: close keys, calls and pages")
    def suspend(self, request: HttpRequest, tenants: QuerySet[Tenant]) -> HttpResponse | None:
        return self._ask(request, tenants, "suspend", SuspensionForm, operations.suspend_tenant)

    @admin.action(description="Resume")
    def resume(self, request: HttpRequest, tenants: QuerySet[Tenant]) -> None:
        self._act(request, tenants, operations.resume_tenant)

    @admin.action(description="Take up again what stands still")
    def retry(self, request: HttpRequest, tenants: QuerySet[Tenant]) -> None:
        self._act(request, tenants, operations.retry_tenant)
        for tenant in tenants:
            ask_for_build(tenant)

    @admin.action(description="Delete: close now, erase after the grace period")
    def delete_tenant(self, request: HttpRequest, tenants: QuerySet[Tenant]) -> HttpResponse | None:
        if len(tenants) != 1:
            messages.error(request, "Delete one tenant at a time.")
            return None
        return self._ask(request, tenants, "delete_tenant", DeletionForm, operations.request_deletion)

    @admin.action(description="Undelete")
    def undelete(self, request: HttpRequest, tenants: QuerySet[Tenant]) -> None:
        self._act(request, tenants, operations.cancel_deletion)

    def _ask(
        self,
        request: HttpRequest,
        tenants: QuerySet[Tenant],
        action: str,
        form_class: type[forms.Form],
        operation: Callable[..., Tenant],
    ) -> HttpResponse | None:
        """One more page, with what the operation needs to know."""
        form = form_class(request.POST if "apply" in request.POST else None)
        if form.is_valid():
            self._act(request, tenants, operation, **form.cleaned_data)
            return None
        context = admin.site.each_context(request) | {
            "title": f"{action.partition('_')[0].title()} {', '.join(tenant.name for tenant in tenants)}",
            "form": form,
            "action": action,
            "selected": [tenant.pk for tenant in tenants],
            "checkbox": ACTION_CHECKBOX_NAME,
            "opts": Tenant._meta,
        }
        return TemplateResponse(request, "admin/tenants/act.html", context)

    def _act(
        self, request: HttpRequest, tenants: QuerySet[Tenant], operation: Callable[..., Tenant], **fields: Any
    ) -> None:
        for tenant in tenants:
            try:
                changed = operation(tenant=tenant, **fields)
            except TenancyError as error:
                messages.error(request, error.message)
            else:
                messages.success(request, f"{changed.slug} is {changed.status}.")


class PlanAdmin:
    """For the plans' ModelAdmin, before its base."""

    form = PlanForm
    may_add = may_change = may_delete = True
    list_display = ["name", "slug", "limits", "created_at"]
    search_fields = ["name", "slug"]

    def get_readonly_fields(self, request: HttpRequest, obj: Plan | None = None) -> list[str]:
        return ["slug"] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: Plan | None = None) -> bool:
        unused = obj is None or not obj.tenants.exists()
        return bool(unused and super().has_delete_permission(request, obj))  # type: ignore[misc]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """One at a time, on its own page: the list's own deletion would pass by the operation."""
        return {}

    def save_model(self, request: HttpRequest, obj: Plan, form: PlanForm, change: bool) -> None:
        if change:
            plans.update_plan(plan=obj, **{name: form.cleaned_data[name] for name in form.changed_data})
            return
        obj.__dict__.update(plans.create_plan(**form.cleaned_data).__dict__)

    def delete_model(self, request: HttpRequest, obj: Plan) -> None:
        plans.delete_plan(plan=obj)


def _refused(check: Callable[[], object]) -> None:
    """An operation's refusal as the form's."""
    try:
        check()
    except TenancyError as error:
        raise forms.ValidationError(error.message, getattr(error, "code", "invalid")) from error
