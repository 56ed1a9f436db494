from django.db import migrations

# The shared schema's own table is left out: a test database is emptied between tests, and with it that one.
FORBID = """
DO $$
BEGIN
    IF current_schema() <> 'public' THEN
        CREATE TRIGGER audit_entry_is_never_emptied BEFORE TRUNCATE ON audit_entry
            FOR EACH STATEMENT EXECUTE FUNCTION audit_entry_is_final();
    END IF;
END $$;
"""
ALLOW = "DROP TRIGGER IF EXISTS audit_entry_is_never_emptied ON audit_entry;"


class Migration(migrations.Migration):
    dependencies = [("audit", "0002_append_only")]

    operations = [migrations.RunSQL(FORBID, ALLOW)]
