"""Mail that this product writes itself; the rest is django-allauth's."""

import logging
from smtplib import SMTPException

from django.conf import settings
from django.core.mail import EmailMessage
from django.template.loader import render_to_string
from django.utils import timezone

from tenants.models import Invitation

log = logging.getLogger(__name__)


def mail_invitation(invitation: Invitation, link: str) -> None:
    """After the commit. An invitation that could not be mailed has no ``mailed_at``; it can be sent again."""
    inviter = invitation.invited_by
    told = {
        "tenant": invitation.tenant.name, "inviter": (inviter.name or inviter.email) if inviter else "",
        "role": invitation.get_role_display().lower(), "link": link, "days": settings.INVITATION_DAYS,
    }  # fmt: skip
    # A tenant's name is its own to choose; a subject has one line.
    subject = " ".join(f"Invitation to {invitation.tenant.name} on AgentVoiceBox".split())
    message = EmailMessage(subject, render_to_string("people/email/invitation.txt", told), to=[invitation.email])
    try:
        message.send()
    except (SMTPException, OSError) as error:
        log.warning("invitation %s was not mailed: %s", invitation.pk, type(error).__name__)
        return
    Invitation.objects.filter(pk=invitation.pk, token_hash=invitation.token_hash).update(mailed_at=timezone.now())
