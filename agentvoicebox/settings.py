"""Django's settings, read from the environment once. Every variable is described in ``docs/configuration.md``."""

import sys
from pathlib import Path

import dj_database_url
import sentry_sdk
from environs import Env, ValidationError, validate

from agentvoicebox import reports
from realtime.protocol.call import Limits
from realtime.runtime.runner import RunnerConfig
from speech.jobs import JOB_TTL_S
from speech.logs import logging_config
from tenants.encryption.errors import MasterKeyInvalid
from tenants.encryption.master import check_written
from tenants.keys.networks import read_network
from tenants.people.mail_url import read_mail_url

BASE_DIR = Path(__file__).resolve().parent.parent
env = Env()
natural = validate.Range(min=0)
positive = validate.Range(min=1)


def master_key(written: str) -> None:
    try:
        check_written(written)
    except MasterKeyInvalid as error:
        raise ValidationError(str(error)) from error


# --- where this runs ---
ENVIRONMENT = env.str("AVB_ENVIRONMENT", "dev", validate=validate.OneOf(["dev", "staging", "production"]))
DEV = ENVIRONMENT == "dev"
DEBUG = env.bool("AVB_DEBUG", False)
STATE_DIR = Path(env.str("AVB_STATE_DIR", str(BASE_DIR / ".avb")))
# Outside dev the secrets and addresses have no default: a missing one stops the start with its name.
SECRET_KEY = env.str("AVB_SECRET_KEY", "dev-only-key-that-protects-nothing") if DEV else env.str("AVB_SECRET_KEY")
ALLOWED_HOSTS = (
    env.list("AVB_ALLOWED_HOSTS", [".localhost", "127.0.0.1", "[::1]"]) if DEV else env.list("AVB_ALLOWED_HOSTS")
)
CSRF_TRUSTED_ORIGINS = env.list("AVB_CSRF_TRUSTED_ORIGINS", [])

# --- apps: people and keys are shared, agents and conversations live in each tenant's schema ---
SHARED_APPS = [
    "django_tenants",
    "tenants",
    "tenants.encryption",
    "tenants.audit",
    "tenants.prices",
    "tenants.features",
    "agentvoicebox",
    "unfold.apps.BasicAppConfig",
    "tenants.apps.TenantAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.usersessions",
    "django_prometheus",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]
# The audit log has a table in each: the platform's in the shared schema, every tenant's in its own.
TENANT_APPS = [
    "tenants.audit",
    "tenants.limits",
    "tenants.usage",
    "agents",
    "agents.providers",
    "agents.toolbox",
    "agents.routing",
    "agents.trials",
    "realtime.archive",
    "realtime.recordings",
    "realtime.privacy",
]
# Daphne brings the development server that speaks ASGI; it loads Twisted, which no other process needs.
INSTALLED_APPS = (["daphne"] if "runserver" in sys.argv else []) + list(dict.fromkeys(SHARED_APPS + TENANT_APPS))
TENANT_MODEL = "tenants.Tenant"
TENANT_DOMAIN_MODEL = "tenants.Domain"
TENANT_LIMIT_SET_CALLS = True
AUTH_USER_MODEL = "tenants.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]

MIDDLEWARE = [
    "agentvoicebox.health.ProbeMiddleware",
    "agentvoicebox.logs.RequestLogMiddleware",
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "agentvoicebox.security.ContentSecurityPolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "tenants.limits.middleware.PageThrottle",
    "tenants.middleware.TenantMiddleware",
    "tenants.api.cors.TenantCorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "tenants.middleware.PersonMiddleware",
    "tenants.limits.middleware.PersonThrottle",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]
ROOT_URLCONF = "agentvoicebox.urls"
ASGI_APPLICATION = "agentvoicebox.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- PostgreSQL ---
POSTGRES_READ_TIMEOUT_MS = env.int("AVB_POSTGRES_READ_TIMEOUT_MS", 1_000, validate=natural)
POSTGRES_WRITE_TIMEOUT_MS = env.int("AVB_POSTGRES_WRITE_TIMEOUT_MS", 5_000, validate=natural)
POSTGRES_POOL_SIZE = env.int("AVB_POSTGRES_POOL_SIZE", 10, validate=natural)
DATABASES = {
    "default": dj_database_url.parse(
        env.str("DATABASE_URL", "postgresql://avb@127.0.0.1:5432/avb") if DEV else env.str("DATABASE_URL"),
        engine="django_tenants.postgresql_backend",
        conn_max_age=0 if POSTGRES_POOL_SIZE else None,
        conn_health_checks=True,
    )
}
DATABASES["default"]["OPTIONS"] = DATABASES["default"].get("OPTIONS", {}) | {
    "connect_timeout": 2,
    "options": f"-c statement_timeout={POSTGRES_WRITE_TIMEOUT_MS} -c idle_in_transaction_session_timeout=60000",
}
if POSTGRES_POOL_SIZE:
    # After reconnect_timeout the pool gives a dead connection up, and the next request dials anew: without it, the
    # pool's own back-off would keep requests failing for half a minute after PostgreSQL is back.
    DATABASES["default"]["OPTIONS"]["pool"] = {
        "min_size": 1,
        "max_size": POSTGRES_POOL_SIZE,
        "timeout": 2.0,
        "reconnect_timeout": 2.0,
    }

# --- Redis ---
REDIS_URL = env.str("REDIS_URL", "redis://127.0.0.1:6379/0") if DEV else env.str("REDIS_URL")
SPEECH_ANSWER_S = env.float("AVB_SPEECH_ANSWER_S", 10.0, validate=validate.Range(min=0.1))
REDIS_READ_TIMEOUT_S = env.int("AVB_REDIS_READ_TIMEOUT_MS", 100, validate=positive) / 1000
REDIS_WRITE_TIMEOUT_S = env.int("AVB_REDIS_WRITE_TIMEOUT_MS", 500, validate=positive) / 1000
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        # The layer waits in blocking reads of any length: redis-py's default socket timeout would end them.
        "CONFIG": {"hosts": [{"address": REDIS_URL, "socket_timeout": None}], "prefix": "avb:layer"},
    }
}

# --- a live call ---
CALL_LIMITS = Limits(
    input_audio_s=env.int("AVB_CALL_INPUT_AUDIO_S", 120, validate=positive),
    turn_s=env.int("AVB_CALL_TURN_S", 60, validate=positive),
    ahead_s=env.int("AVB_CALL_AHEAD_S", 15, validate=natural),
    pause_ms=env.int("AVB_CALL_PAUSE_MS", 96, validate=positive),
    guess_ms=env.int("AVB_CALL_GUESS_MS", 1_000, validate=natural),
    kept_audio_s=env.int("AVB_CALL_KEPT_AUDIO_S", 300, validate=natural),
    items=env.int("AVB_CALL_ITEMS", 10_000, validate=positive),
    content_bytes=env.int("AVB_CALL_CONTENT_BYTES", 16 * 1024 * 1024, validate=positive),
    text_bytes=env.int("AVB_CALL_TEXT_BYTES", 1024 * 1024, validate=positive),
    session_bytes=env.int("AVB_CALL_SESSION_BYTES", 1024 * 1024, validate=positive),
    transcriptions=env.int("AVB_CALL_TRANSCRIPTIONS", 16, validate=positive),
    responses=env.int("AVB_CALL_RESPONSES", 8, validate=positive),
    context_tokens=env.int("AVB_LLM_CONTEXT_TOKENS", 32_000, validate=positive),
    greeting_ms=env.int("AVB_CALL_GREETING_MS", 300, validate=natural),
    tools_wait_ms=env.int("AVB_CALL_TOOLS_WAIT_MS", 3_000, validate=natural),
    mcp_servers=env.int("AVB_CALL_MCP_SERVERS", 8, validate=natural),
    hand_offs=env.int("AVB_CALL_HAND_OFFS", 3, validate=natural),
)
REALTIME_BETA = env.bool("AVB_REALTIME_BETA", True)
CALL_RUNNER = RunnerConfig(
    outbox_bytes=env.int("AVB_CALL_OUTBOX_BYTES", 16 * 1024 * 1024, validate=positive),
    session_s=env.float("AVB_CALL_SESSION_S", 3600.0, validate=positive),
)

# --- versions of agents: when one is taken back for being worse than the one before it ---
AGENT_WATCH = env.bool("AVB_AGENT_WATCH", True)
AGENT_WATCH_CALLS = env.int("AVB_AGENT_WATCH_CALLS", 1_000, validate=positive)
AGENT_WATCH_DAYS = env.int("AVB_AGENT_WATCH_DAYS", 7, validate=positive)
AGENT_WATCH_MIN_CALLS = env.int("AVB_AGENT_WATCH_MIN_CALLS", 20, validate=validate.Range(min=5))
AGENT_WATCH_ALPHA = env.float("AVB_AGENT_WATCH_ALPHA", 0.01, validate=validate.Range(min=0.000001, max=0.2))

# --- features that operators turn on and off (``tenants.features``) ---
FEATURE_CACHE_S = env.float("AVB_FEATURE_CACHE_S", 5.0, validate=natural)

TURN_WAITING = env.int("AVB_TURN_WAITING", 16, validate=natural)
ACTIVE_AGENT_S = env.int("AVB_ACTIVE_AGENT_S", 1_800, validate=natural)
ROUTING_WAIT_S = env.int("AVB_ROUTING_WAIT_MS", 2_000, validate=positive) / 1000

# --- limits: what a tenant has where neither it nor its plan says otherwise (``tenants.limits.names``) ---
LIMITS = {
    "requests_per_minute": env.int("AVB_REQUESTS_PER_MINUTE", 100, validate=natural),
    "tokens_per_minute": env.int("AVB_TOKENS_PER_MINUTE", 100_000, validate=natural),
    "concurrent_sessions": env.int("AVB_CONCURRENT_SESSIONS", 100, validate=natural),
    "sessions_per_end_user": env.int("AVB_SESSIONS_PER_END_USER", 3, validate=natural),
    "audio_minutes_per_day": env.int("AVB_AUDIO_MINUTES_PER_DAY", 15_000, validate=natural),
    "connections_per_second": env.int("AVB_TENANT_CONNECTIONS_PER_SECOND", 20, validate=natural),
}
TOKENS_RESERVED = env.int("AVB_TOKENS_RESERVED", 1_000, validate=positive)
CONNECTIONS_PER_SECOND = env.int("AVB_CONNECTIONS_PER_SECOND", 100, validate=positive)
CONNECTIONS_PER_SECOND_PER_ADDRESS = env.int("AVB_CONNECTIONS_PER_SECOND_PER_ADDRESS", 20, validate=natural)
ANONYMOUS_REQUESTS_PER_MINUTE = env.int("AVB_ANONYMOUS_REQUESTS_PER_MINUTE", 120, validate=positive)

# --- keys ---
KEY_CACHE_S = env.int("AVB_KEY_CACHE_S", 60, validate=natural)
KEY_RECHECK_S = env.float("AVB_KEY_RECHECK_S", 5.0, validate=validate.Range(min=0.1))
KEY_ROTATION_HOURS = env.float("AVB_KEY_ROTATION_HOURS", 24.0, validate=validate.Range(min=0, max=720))
KEY_ACCESS_AUDIT_S = env.int("AVB_KEY_ACCESS_AUDIT_S", 86_400, validate=positive)
API_KEYS_PER_TENANT = env.int("AVB_API_KEYS_PER_TENANT", 1_000, validate=positive)
TRUSTED_PROXIES = env.list("AVB_TRUSTED_PROXIES", [], validate=lambda written: [read_network(one) for one in written])

# --- language models ---
PROVIDERS_PER_TENANT = env.int("AVB_PROVIDERS_PER_TENANT", 50, validate=positive)
PROVIDER_CHECKS = env.int("AVB_PROVIDER_CHECKS", 3, validate=positive)

# --- data protection ---
MASTER_KEY = (
    env.str("AVB_MASTER_KEY", f"file:{STATE_DIR.absolute() / 'master_key'}", validate=master_key)
    if DEV
    else env.str("AVB_MASTER_KEY", validate=master_key)
)
MASTER_KEYS_PREVIOUS = env.list("AVB_MASTER_KEY_PREVIOUS", [], validate=lambda keys: [master_key(key) for key in keys])
DATA_KEY_CACHE_KEYS = env.int("AVB_DATA_KEY_CACHE_KEYS", 1_024, validate=positive)
DATA_KEY_CACHE_S = env.int("AVB_DATA_KEY_CACHE_S", 300, validate=natural)
DATA_KEY_DAYS = env.int("AVB_DATA_KEY_DAYS", 365, validate=positive)
RESEAL_BATCH_ROWS = env.int("AVB_RESEAL_BATCH_ROWS", 200, validate=positive)
RETENTION_DAYS = env.int("AVB_RETENTION_DAYS", 90, validate=positive)
RETENTION_BATCH_ROWS = env.int("AVB_RETENTION_BATCH_ROWS", 100, validate=positive)
COLD_AFTER_DAYS = env.int("AVB_COLD_AFTER_DAYS", 90, validate=validate.Range(min=0))
EXPORT_HOURS = env.int("AVB_EXPORT_HOURS", 72, validate=positive)

# --- the lives of tenants ---
SECRET_KEY_FALLBACKS = env.list("AVB_SECRET_KEY_FALLBACKS", [])
TENANT_DELETE_GRACE_DAYS = env.int("AVB_TENANT_DELETE_GRACE_DAYS", 30, validate=natural)
TENANT_MAX_DOMAINS = env.int("AVB_TENANT_MAX_DOMAINS", 50, validate=positive)
TASK_SUBMIT = "celery_workers.app.submit"
# In this order (``tenants.lifecycle.erasers``): what reads the tenant's rows before the schema goes, Redis last.
TENANT_ERASERS = [
    "tenants.lifecycle.erasers.Schema",
    "realtime.recordings.erasing.Recordings",
    "tenants.encryption.erasing.DataKeys",
    "tenants.lifecycle.erasers.RedisKeys",
]

# --- the archive ---
ARCHIVE_MEMORY_EVENTS = env.int("AVB_ARCHIVE_MEMORY_EVENTS", 1_000, validate=positive)
ARCHIVE_MEMORY_BYTES = env.int("AVB_ARCHIVE_MEMORY_BYTES", 64 * 1024 * 1024, validate=positive)
ARCHIVE_BATCH_EVENTS = env.int("AVB_ARCHIVE_BATCH_EVENTS", 500, validate=positive)
ARCHIVE_DEAD_LETTER_DAYS = env.int("AVB_ARCHIVE_DEAD_LETTER_DAYS", 7, validate=positive)

# --- recordings: spooled by the gateway, stored by the default worker beside it ---
RECORDING_SPOOL_DIR = Path(env.str("AVB_RECORDING_SPOOL_DIR", str(STATE_DIR / "spool")))
RECORDING_SPOOL_MAX_BYTES = env.int("AVB_RECORDING_SPOOL_MAX_BYTES", 2 * 1024**3, validate=positive)
RECORDING_MEMORY_BYTES = env.int("AVB_RECORDING_MEMORY_BYTES", 8 * 1024 * 1024, validate=positive)
RECORDING_PART_BYTES = env.int("AVB_RECORDING_PART_BYTES", 10 * 1024 * 1024, validate=validate.Range(min=96_000))
RECORDING_DIR = Path(env.str("AVB_RECORDING_DIR", str(STATE_DIR / "recordings")))
S3_BUCKET = env.str("AVB_S3_BUCKET", "")
S3_ENDPOINT_URL = env.str("AVB_S3_ENDPOINT_URL", "")
S3_TIMEOUT_S = env.float("AVB_S3_TIMEOUT_S", 20.0, validate=validate.Range(min=0.1))
S3_COLD_STORAGE_CLASS = env.str("AVB_S3_COLD_STORAGE_CLASS", "")

# --- routing ---
ROUTING_RULES = env.int("AVB_ROUTING_RULES", 200, validate=positive)

# --- usage and cost ---
USAGE_REPORT_DAYS = env.int("AVB_USAGE_REPORT_DAYS", 366, validate=positive)
BUDGETS = env.int("AVB_BUDGETS", 20, validate=positive)
STRIPE_API_KEY = env.str("STRIPE_API_KEY", "")
STRIPE_URL = env.str("AVB_STRIPE_URL", "https://api.stripe.com")
STRIPE_TIMEOUT_S = env.int("AVB_STRIPE_TIMEOUT_S", 10, validate=positive)
STRIPE_BATCH = env.int("AVB_STRIPE_BATCH", 100, validate=positive)
STRIPE_EVENT_PREFIX = env.str("AVB_STRIPE_EVENT_PREFIX", "avb_")

# --- the platform API ---
API_PAGE_SIZE = env.int("AVB_API_PAGE_SIZE", 50, validate=positive)
API_MAX_PAGE_SIZE = env.int("AVB_API_MAX_PAGE_SIZE", 200, validate=positive)
API_MAX_ITEMS = env.int("AVB_API_MAX_ITEMS", 1_000, validate=positive)
DATA_UPLOAD_MAX_MEMORY_SIZE = env.int("AVB_API_MAX_BODY_BYTES", 1_048_576, validate=positive)
API_REQUIRE_IF_MATCH = env.bool("AVB_API_REQUIRE_IF_MATCH", False)
API_IDEMPOTENCY_S = env.int("AVB_API_IDEMPOTENCY_S", 86_400, validate=positive)
API_IDEMPOTENCY_RUNNING_S = env.int("AVB_API_IDEMPOTENCY_RUNNING_S", 60, validate=positive)
IDEMPOTENCY_ANSWER_BYTES = env.int("AVB_IDEMPOTENCY_ANSWER_BYTES", 16_384, validate=natural)
IDEMPOTENCY_KEYS = env.int("AVB_IDEMPOTENCY_KEYS", 5_000, validate=positive)
TOOL_CALLS_PER_TENANT = env.int("AVB_TOOL_CALLS_PER_TENANT", 50, validate=positive)
TOOL_TRIES = env.int("AVB_TOOL_TRIES", 3, validate=positive)
API_KEY_TOUCH_INTERVAL_S = env.int("AVB_API_KEY_TOUCH_INTERVAL_S", 60, validate=natural)
# OpenAI's own limits, but for the length of a recording: 25 MB of silence in FLAC would be days.
SPEECH_MAX_CHARACTERS = env.int("AVB_SPEECH_MAX_CHARACTERS", 4_096, validate=positive)
TRANSCRIPTION_MAX_FILE_BYTES = env.int("AVB_TRANSCRIPTION_MAX_FILE_BYTES", 26_214_400, validate=positive)
TRANSCRIPTION_MAX_AUDIO_S = env.int("AVB_TRANSCRIPTION_MAX_AUDIO_S", 3_600, validate=positive)
TRANSCRIPTION_MAX_RECORDINGS = env.int("AVB_TRANSCRIPTION_MAX_RECORDINGS", 4, validate=positive)
TRANSCRIPTION_MAX_PIECES = env.int("AVB_TRANSCRIPTION_MAX_PIECES", 2, validate=positive)
TRANSCRIPTION_WAIT_S = env.int("AVB_TRANSCRIPTION_WAIT_MS", 2_000, validate=natural) / 1000
# No longer than a job's audio lies in Redis.
TRANSCRIPTION_ANSWER_S = env.float("AVB_TRANSCRIPTION_ANSWER_S", 60.0, validate=validate.Range(min=1, max=JOB_TTL_S))
CLIENT_SECRET_SESSION_BYTES = env.int("AVB_CLIENT_SECRET_SESSION_BYTES", 65_536, validate=positive)
CLIENT_SECRETS_PER_KEY = env.int("AVB_CLIENT_SECRETS_PER_KEY", 1_000, validate=positive)
CLIENT_SECRET_BYTES_PER_TENANT = env.int("AVB_CLIENT_SECRET_BYTES_PER_TENANT", 16 * 1024 * 1024, validate=positive)
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "tenants.authentication.OAuthClientAuthentication",
        "tenants.authentication.ApiKeyAuthentication",
        "tenants.authentication.PersonAuthentication",
    ],
    "DEFAULT_RENDERER_CLASSES": ["tenants.envelope.EnvelopeRenderer", "tenants.envelope.ProblemRenderer"],
    "DEFAULT_PARSER_CLASSES": ["tenants.envelope.JsonParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "tenants.envelope.shape_error",
    # The header Accept says it; ``?format=`` is a query parameter like any other that nobody reads.
    "URL_FORMAT_OVERRIDE": None,
    "UNAUTHENTICATED_USER": None,
}
# Which origins: ``tenants.api.cors``. Browsers keep a preflight's answer for so long.
CORS_PREFLIGHT_MAX_AGE = env.int("AVB_API_PREFLIGHT_S", 600, validate=natural)
CORS_ALLOW_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
CORS_ALLOW_HEADERS = [
    "accept", "authorization", "content-type", "idempotency-key", "if-match", "if-none-match", "traceparent",
    "x-correlation-id", "x-request-id",
]  # fmt: skip
CORS_EXPOSE_HEADERS = [
    "ETag", "Idempotency-Replayed", "Location", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Correlation-Id",
    "X-Request-Id",
]  # fmt: skip
SPECTACULAR_SETTINGS = {
    "TITLE": "AgentVoiceBox platform API",
    "DESCRIPTION": "Agents, conversations, people, keys, limits and usage of one tenant. The API key decides which.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    # What is sent has no fields that only the server sets: they are refused.
    "COMPONENT_SPLIT_REQUEST": True,
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "ENUM_NAME_OVERRIDES": {
        "PrivacyJobState": "realtime.privacy.models.JobState",
        "ProviderKind": "agents.providers.kinds.Kind",
        "RecordingState": "realtime.recordings.models.RecordingState",
        "ReleaseStatus": "agents.trials.models.ReleaseStatus",
        "TenantStatus": "tenants.models.TenantStatus",
        "ToolCredentialKind": "agents.toolbox.models.CredentialKind",
        "TrialStatus": "agents.trials.models.TrialStatus",
        "RoleEnum": "tenants.permissions.Role",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "tenants.openapi.complete_document",
    ],
}

# --- people: they sign in by django-allauth; what it counts lies in Redis, so that the limits hold across gateways ---
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "avb:cache",
        "OPTIONS": {"socket_timeout": REDIS_WRITE_TIMEOUT_S, "socket_connect_timeout": REDIS_WRITE_TIMEOUT_S},
    }
}
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "people_home"
OPEN_SIGNUP = env.bool("AVB_OPEN_SIGNUP", False)
ACCOUNT_ADAPTER = "tenants.people.adapters.AccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_CHANGE_EMAIL = True
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_RATE_LIMITS = {
    "login": f"{env.int('AVB_SIGN_INS_PER_MINUTE', 30, validate=positive)}/m/ip",
    "login_failed": f"10/m/ip,{env.int('AVB_SIGN_IN_FAILURES', 5, validate=positive)}/300s/key",
}
MFA_ADAPTER = "tenants.people.adapters.MfaAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes", "webauthn"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = DEV  # browsers themselves allow it on localhost alone
MFA_TOTP_ISSUER = "AgentVoiceBox"
MFA_TOTP_TOLERANCE = 1
MFA_RECOVERY_CODES_SHOW_ONCE = True
SOCIALACCOUNT_ADAPTER = "tenants.people.adapters.SingleSignOnAdapter"
SSO_TIMEOUT_S = SOCIALACCOUNT_REQUESTS_TIMEOUT = env.float("AVB_SSO_TIMEOUT_S", 5.0, validate=validate.Range(min=0.1))
SSO_PRIVATE_ISSUERS = env.bool("AVB_SSO_PRIVATE_ISSUERS", DEV)
SSO_DNS_SERVERS = env.list("AVB_SSO_DNS_SERVERS", [])
INVITATION_DAYS = env.int("AVB_INVITATION_DAYS", 7, validate=positive)
INVITATIONS_OPEN = env.int("AVB_INVITATIONS_OPEN", 200, validate=positive)
INVITATION_PAUSE_S = env.int("AVB_INVITATION_PAUSE_S", 60, validate=natural)
INVITATION_MAILS_PER_HOUR = env.int("AVB_INVITATION_MAILS_PER_HOUR", 200, validate=positive)
EMAIL_DOMAINS_PER_TENANT = env.int("AVB_EMAIL_DOMAINS_PER_TENANT", 50, validate=positive)
SESSION_COOKIE_AGE = env.int("AVB_SESSION_S", 1_209_600, validate=positive)
DEFAULT_FROM_EMAIL = env.str("AVB_EMAIL_FROM", "AgentVoiceBox <noreply@localhost>")
EMAIL_TIMEOUT_S = env.float("AVB_EMAIL_TIMEOUT_S", 10.0, validate=validate.Range(min=0.1))
EMAIL_URL = env.str(
    "AVB_EMAIL_URL",
    f"file://{STATE_DIR.absolute()}/mail" if DEV else "smtp://127.0.0.1",
    validate=lambda url: bool(read_mail_url(url, EMAIL_TIMEOUT_S)),
)
globals().update(read_mail_url(EMAIL_URL, EMAIL_TIMEOUT_S))

# --- programs that sign in by OAuth ---
OAUTH_ISSUER = env.str("AVB_OAUTH_ISSUER", "agentvoicebox", validate=validate.Length(min=1))
OAUTH_TOKEN_S = env.int("AVB_OAUTH_TOKEN_S", 3_600, validate=validate.Range(min=1, max=3_600))
OAUTH_KEY_DAYS = env.int("AVB_OAUTH_KEY_DAYS", 90, validate=positive)
OAUTH_CLIENTS = env.int("AVB_OAUTH_CLIENTS", 100, validate=positive)
OAUTH_ROTATION_S = env.int("AVB_OAUTH_ROTATION_S", 86_400, validate=natural)

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not DEV
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"

# --- what browsers are told ---
SECURE_SSL_REDIRECT = env.bool("AVB_SSL_REDIRECT", not DEV)
SECURE_HSTS_SECONDS = 0 if DEV else 31_536_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = ENVIRONMENT == "production"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env.bool("AVB_BEHIND_TLS_PROXY", False) else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# --- pages ---
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Static files are served from the apps' own folders, so a start needs no collectstatic.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
APPEND_SLASH = True

# --- the admin ---
UNFOLD = {
    "SITE_URL": "/",
    "SITE_SYMBOL": "graphic_eq",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "agentvoicebox.admin.icon_address"}],
    "STYLES": ["agentvoicebox.admin.style_address"],
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "agentvoicebox.admin.dashboard",
    "SIDEBAR": {"navigation": "agentvoicebox.admin.navigation"},
    "COLORS": {
        "primary": {
            "50": "oklch(97% .02 180)", "100": "oklch(94% .04 180)", "200": "oklch(89% .07 180)",
            "300": "oklch(82% .09 180)", "400": "oklch(74% .1 180)", "500": "oklch(60% .1 178)",
            "600": "oklch(48% .09 176)", "700": "oklch(42% .08 176)", "800": "oklch(36% .07 176)",
            "900": "oklch(31% .06 176)", "950": "oklch(22% .04 176)",
        },
    },
}  # fmt: skip

# --- seeing it run ---
PROMETHEUS_EXPORT_MIGRATIONS = False
LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
LOG_LEVEL = env.str("AVB_LOG_LEVEL", "INFO", validate=validate.OneOf(LEVELS))
LOG_FORMAT = env.str("AVB_LOG_FORMAT", "auto", validate=validate.OneOf(["auto", "json", "text"]))
LOGGING = logging_config(service=env.str("AVB_SERVICE", "gateway"), level=LOG_LEVEL, log_format=LOG_FORMAT)
LOGGING["filters"]["context"]["()"] = "agentvoicebox.logs.TenantContextFilter"
SENTRY_DSN = env.str("SENTRY_DSN", "")
if SENTRY_DSN:
    sentry_sdk.init(
        dsn=SENTRY_DSN,
        environment=ENVIRONMENT,
        send_default_pii=False,
        include_local_variables=False,  # they would carry what callers said
        max_request_body_size="never",
        before_send=reports.strip,
        before_send_transaction=reports.strip,
        traces_sample_rate=env.float("AVB_SENTRY_TRACES_RATE", 0.01, validate=validate.Range(min=0, max=1)),
    )
