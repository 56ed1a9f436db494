from allauth.socialaccount import views as socialaccount
from allauth.socialaccount.providers.openid_connect.views import callback
from django.urls import include, path

from tenants.people import pages

urlpatterns = [
    path("", pages.home, name="people_home"),
    path("tenant/", pages.choose, name="people_choose"),
    path("invitations/<str:token>/", pages.invitation, name="people_invitation"),
    path("sso/", pages.find_sign_on, name="people_find_sign_on"),
    path("sso/<slug:slug>/", pages.sign_on, name="people_sign_on"),
    path("sso/<slug:provider_id>/begin/", pages.begin_sign_on, name="openid_connect_login"),
    path("sso/<slug:provider_id>/callback/", callback, name="openid_connect_callback"),
    path("sso/login/cancelled/", socialaccount.login_cancelled, name="socialaccount_login_cancelled"),
    path("sso/login/error/", socialaccount.login_error, name="socialaccount_login_error"),
    path("", include("allauth.account.urls")),
    path("2fa/", include("allauth.mfa.urls")),
    path("sessions/", include("allauth.usersessions.urls")),
]
