from django.apps import AppConfig


class ArchiveConfig(AppConfig):
    name = "realtime.archive"
    label = "archive"
