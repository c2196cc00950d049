"""The site's URLs, and a log of every request."""

import threading

from django.conf import settings
from django.http import HttpResponse
from django.urls import include, path
from django.contrib import admin
from oauth2_provider.urls import metadata_urlpatterns
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.views import TokenBlacklistView, TokenObtainPairView, TokenRefreshView

NOTING = threading.Lock()


def noted(get_response):
    """Writes method, path, status and grant of each request to the file `requests`, when it is answered."""

    def middleware(request):
        response = get_response(request)
        form = request.content_type == "application/x-www-form-urlencoded"
        grant = request.POST.get("grant_type", "-") if form else "-"
        with NOTING, open(settings.DIR / "requests", "a") as notes:
            notes.write(f"{request.method} {request.path} {response.status_code} {grant}\n")
        return response

    return middleware


class Me(APIView):
    """The API that the tokens are for. Returns the user's name."""

    authentication_classes = [JWTAuthentication]
    permission_classes = [IsAuthenticated]

    def get(self, request):
        return Response({"name": request.user.get_username()})


def page(request):
    """The page that a proxy or a portal returns instead of an API response."""
    return HttpResponse("<!doctype html><title>Sign in to the network</title>")


def broken(request):
    """A view that fails: Django responds with 500 and a page."""
    raise RuntimeError("a fault of the test's own")


for view in (page, broken):
    view.csrf_exempt = True

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include((metadata_urlpatterns, "metadata"))),
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("api/login/", TokenObtainPairView.as_view()),
    path("api/refresh/", TokenRefreshView.as_view()),
    path("api/logout/", TokenBlacklistView.as_view()),
    path("api/me/", Me.as_view()),
    path("api/page/", page),
    path("api/broken/", broken),
]
