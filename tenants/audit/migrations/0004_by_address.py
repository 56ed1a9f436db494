from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("audit", "0003_never_emptied")]

    operations = [
        migrations.AddIndex(
            model_name="entry",
            index=models.Index(
                condition=models.Q(("address", ""), _negated=True), fields=["address", "-seq"], name="audit_by_address"
            ),
        )
    ]
