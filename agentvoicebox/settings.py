"""Django's settings, read from the environment once. Every variable is described in ``docs/configuration.md``."""

import sys
from pathlib import Path

import dj_database_url
import sentry_sdk
from environs import Env, validate

from realtime.protocol.call import Limits
from realtime.runtime.runner import RunnerConfig
from speech.jobs import JOB_TTL_S
from speech.logs import logging_config

BASE_DIR = Path(__file__).resolve().parent.parent
env = Env()
natural = validate.Range(min=0)
positive = validate.Range(min=1)

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
    "agentvoicebox",
    "tenants.apps.TenantAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_prometheus",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]
# The audit log has a table in each: the platform's in the shared schema, every tenant's in its own.
TENANT_APPS = ["tenants.audit", "tenants.usage", "agents", "realtime.archive"]
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
    "tenants.middleware.TenantMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
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
    kept_audio_s=env.int("AVB_CALL_KEPT_AUDIO_S", 300, validate=natural),
    items=env.int("AVB_CALL_ITEMS", 10_000, validate=positive),
    content_bytes=env.int("AVB_CALL_CONTENT_BYTES", 16 * 1024 * 1024, validate=positive),
    text_bytes=env.int("AVB_CALL_TEXT_BYTES", 1024 * 1024, validate=positive),
    session_bytes=env.int("AVB_CALL_SESSION_BYTES", 1024 * 1024, validate=positive),
    transcriptions=env.int("AVB_CALL_TRANSCRIPTIONS", 16, validate=positive),
    responses=env.int("AVB_CALL_RESPONSES", 8, validate=positive),
    context_tokens=env.int("AVB_LLM_CONTEXT_TOKENS", 32_000, validate=positive),
)
REALTIME_BETA = env.bool("AVB_REALTIME_BETA", True)
CALL_RUNNER = RunnerConfig(
    outbox_bytes=env.int("AVB_CALL_OUTBOX_BYTES", 16 * 1024 * 1024, validate=positive),
    session_s=env.float("AVB_CALL_SESSION_S", 3600.0, validate=positive),
)

TURN_WAITING = env.int("AVB_TURN_WAITING", 16, validate=natural)
TOKENS_PER_MINUTE = env.int("AVB_TOKENS_PER_MINUTE", 100_000, validate=positive)

# --- the archive ---
ARCHIVE_MEMORY_EVENTS = env.int("AVB_ARCHIVE_MEMORY_EVENTS", 1_000, validate=positive)
ARCHIVE_MEMORY_BYTES = env.int("AVB_ARCHIVE_MEMORY_BYTES", 64 * 1024 * 1024, validate=positive)
ARCHIVE_BATCH_EVENTS = env.int("AVB_ARCHIVE_BATCH_EVENTS", 500, validate=positive)
ARCHIVE_DEAD_LETTER_DAYS = env.int("AVB_ARCHIVE_DEAD_LETTER_DAYS", 7, validate=positive)

# --- the platform API ---
API_PAGE_SIZE = env.int("AVB_API_PAGE_SIZE", 50, validate=positive)
API_MAX_PAGE_SIZE = env.int("AVB_API_MAX_PAGE_SIZE", 200, validate=positive)
API_MAX_ITEMS = env.int("AVB_API_MAX_ITEMS", 1_000, validate=positive)
DATA_UPLOAD_MAX_MEMORY_SIZE = env.int("AVB_API_MAX_BODY_BYTES", 1_048_576, validate=positive)
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
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["tenants.authentication.ApiKeyAuthentication"],
    "DEFAULT_RENDERER_CLASSES": ["tenants.envelope.EnvelopeRenderer"],
    "DEFAULT_PARSER_CLASSES": ["tenants.envelope.JsonParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "tenants.envelope.shape_error",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "AgentVoiceBox platform API",
    "DESCRIPTION": "Agents and conversation archives of one tenant. The API key decides which tenant.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "tenants.openapi.wrap_in_envelopes",
    ],
}

# --- people ---
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
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
        traces_sample_rate=env.float("AVB_SENTRY_TRACES_RATE", 0.01, validate=validate.Range(min=0, max=1)),
    )
