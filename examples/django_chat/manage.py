"""A small Django project, WSGI and ASGI, whose users are Django's own.

Needs OPENAI_API_KEY and `pip install django gunicorn uvicorn openai`. Run it in this folder:

    python manage.py migrate
    python manage.py createsuperuser
    posthog-instrument gunicorn chat.wsgi        # or: posthog-instrument uvicorn chat.asgi:application

Sign in at http://127.0.0.1:8000/login/, then ask: http://127.0.0.1:8000/ask?text=Hello
"""

import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chat.settings")

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
