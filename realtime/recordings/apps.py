from django.apps import AppConfig


class RecordingsConfig(AppConfig):
    name = "realtime.recordings"
    label = "recordings"
