"""Django on waitress."""
import logging
import os

from django.core.wsgi import get_wsgi_application
from waitress import serve

logging.getLogger().setLevel(logging.INFO)
logging.getLogger("waitress.queue").setLevel(logging.ERROR)
serve(get_wsgi_application(), host="127.0.0.1", port=int(os.environ["PORT"]), threads=int(os.environ.get("THREADS", "12")), ident=None)
