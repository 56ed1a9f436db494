"""Trials and releases of the tenant whose host this is; its owners and admins may end a trial."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from agents.trials.models import Release, Trial, TrialStatus
from agents.trials.operations import TrialRefused
from agents.trials.promotion import conclude_trial
from agents.trials.queries import compare
from tenants.admin_site import TenantModelAdmin


@admin.register(Trial)
class TrialAdmin(TenantModelAdmin):
    list_display = ["agent", "versions", "status", "end_reason", "started_at", "ended_at"]
    list_select_related = ["agent"]
    list_filter = ["status", "end_reason"]
    search_fields = ["agent__slug"]
    date_hierarchy = "started_at"
    fields = [
        "agent", "versions", "control", "status", "end_reason", "auto_rollback", "alpha", "min_calls", "started_by",
        "started_at", "ended_at", "verdicts",
    ]  # fmt: skip
    readonly_fields = fields
    actions = ["end"]
    list_per_page = 50

    @admin.display(description="Versions by weight")
    def versions(self, trial: Trial) -> str:
        return ", ".join(f"{arm.version} ({arm.weight})" for arm in trial.shares)

    @admin.display(description="Comparison")
    def verdicts(self, trial: Trial) -> SafeString:
        rows = [(arm.version, arm.calls, arm.words) for arm in compare(trial)]
        return format_html_join("", "<p>Version {}, {} calls: {}</p>", rows)

    @admin.action(description="End trials; the live version stays")
    def end(self, request: HttpRequest, trials: QuerySet[Trial]) -> HttpResponse | None:
        running = trials.filter(status=TrialStatus.RUNNING)
        if question := self.confirmed(request, running, "End these trials?"):
            return question
        for trial in running:
            try:
                conclude_trial(trial=trial)
            except TrialRefused as error:
                messages.error(request, f"{trial}: {error.message}")
            else:
                messages.success(request, f"{trial} is ended.")
        return None


@admin.register(Release)
class ReleaseAdmin(TenantModelAdmin):
    list_display: Any = ["agent", "version", "replaced", "status", "since", "ended_at"]
    list_select_related = ["agent"]
    list_filter = ["status"]
    search_fields = ["agent__slug"]
    date_hierarchy = "since"
    list_per_page = 50
