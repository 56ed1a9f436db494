from django.apps import AppConfig


class EncryptionConfig(AppConfig):
    name = "tenants.encryption"
    label = "encryption"
    verbose_name = "Encryption"
