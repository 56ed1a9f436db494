"""Every agent that there is goes on taking calls as it is: what it says becomes its version 1.

Its texts were no templates until now: what looks like a template in them is escaped, and stays what callers hear.
"""

import re

from django.db import migrations

FIELDS = (
    "name", "instructions", "greeting", "variables", "voice", "voices", "speed", "language", "languages", "time_zone",
    "model", "fallback_models", "temperature", "turn_detection", "tools", "colleagues", "filler", "limits",
    "guard_rails", "record",
)


def escape(text):
    return re.sub(r"\{[{%#]", lambda mark: "{{ '%s' }}" % mark[0], text)


def publish_agents(apps, schema_editor):
    agents, versions = apps.get_model("agents", "Agent").objects, apps.get_model("agents", "AgentVersion").objects
    for agent in agents.all():
        agent.instructions, agent.greeting = escape(agent.instructions), escape(agent.greeting)
        definition = {name: getattr(agent, name) for name in FIELDS}
        version = versions.create(agent=agent, number=1, definition=definition, published_by="AgentVoiceBox")
        agents.filter(pk=agent.pk).update(
            live=version, instructions=agent.instructions, greeting=agent.greeting
        )


class Migration(migrations.Migration):

    dependencies = [
        ('agents', '0004_versions'),
    ]

    operations = [
        migrations.RunPython(publish_agents, migrations.RunPython.noop),
    ]
