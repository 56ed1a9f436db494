from django.db import migrations

FORBID = """
CREATE FUNCTION usage_entry_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- A person may be forgotten: nothing but the end user's name goes, and what was used stays counted.
    IF TG_OP = 'UPDATE' AND NEW.end_user = '' THEN
        OLD.end_user := '';
        IF NEW IS NOT DISTINCT FROM OLD THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'entries of the usage ledger are never changed or removed';
END $$;
CREATE TRIGGER usage_entry_is_final BEFORE UPDATE OR DELETE ON usage_entry
    FOR EACH ROW EXECUTE FUNCTION usage_entry_is_final();
CREATE TRIGGER usage_entry_is_never_emptied BEFORE TRUNCATE ON usage_entry
    FOR EACH STATEMENT EXECUTE FUNCTION usage_entry_is_final();
"""
ALLOW = """
DROP TRIGGER usage_entry_is_never_emptied ON usage_entry;
DROP TRIGGER usage_entry_is_final ON usage_entry;
DROP FUNCTION usage_entry_is_final();
"""


class Migration(migrations.Migration):
    dependencies = [("usage", "0001_initial")]

    operations = [migrations.RunSQL(FORBID, ALLOW)]
