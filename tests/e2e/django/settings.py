"""A site with an authorization server at /o and a login API that answers with JWTs at /api, for one test."""

import json
import os
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

# The options of the test: `dir`, and those that are read with `get` below and in serve.py.
OPTIONS = json.loads(os.environ["DJANGO_OPTIONS"])
DIR = Path(OPTIONS["dir"])
ADDRESS = os.environ["DJANGO_ADDRESS"]


def pair(name):
    """Makes an RSA key; its public half is left as NAME.pem. Both halves in PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (DIR / f"{name}.pem").write_bytes(public)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode(), public.decode()


OIDC_PRIVATE, _ = pair("oidc")
API_PRIVATE, API_PUBLIC = pair("api")

SECRET_KEY = os.urandom(32).hex()
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGIN_URL = "/admin/login/"
# The default hasher takes a quarter of a second for each password and client secret.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "oauth2_provider",
    "rest_framework",
    "rest_framework_simplejwt.token_blacklist",
]
STATIC_URL = "/static/"
MIDDLEWARE = [
    "urls.noted",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
# Errors go to stderr, which a failed test shows.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "loggers": {"django.request": {"handlers": ["stderr"], "level": "ERROR", "propagate": False}},
}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
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
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DIR / "db.sqlite3",
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}

OAUTH2_PROVIDER = {
    "OIDC_ENABLED": True,
    "OIDC_RSA_PRIVATE_KEY": OIDC_PRIVATE,
    "OIDC_RP_INITIATED_LOGOUT_ENABLED": True,
    "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
    "REFRESH_TOKEN_REUSE_PROTECTION": True,
    "OAUTH_DEVICE_VERIFICATION_URI": f"{ADDRESS}/o/device/",
    "DEVICE_FLOW_INTERVAL": 1,
    "SCOPES": {"openid": "Who you are", "profile": "Your name", "read": "Read", "introspection": "Look at tokens"},
    "DEFAULT_SCOPES": ["read"],
}

# Creates the tables from the models, which is faster than running all migrations.
MIGRATION_MODULES = {app.split(".")[-1]: None for app in INSTALLED_APPS}

SIMPLE_JWT = {
    "ALGORITHM": "RS256",
    "SIGNING_KEY": API_PRIVATE,
    "VERIFYING_KEY": API_PUBLIC,
    "ISSUER": f"{ADDRESS}/api" if OPTIONS.get("named", True) else None,
    "AUDIENCE": "things" if OPTIONS.get("named", True) else None,
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=5),
    "ROTATE_REFRESH_TOKENS": True,
    "BLACKLIST_AFTER_ROTATION": True,
}
