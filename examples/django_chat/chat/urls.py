"""Two pages: signing in, and asking."""

from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.urls import path
from openai import OpenAI

client = OpenAI()


@login_required
def ask(request: HttpRequest) -> HttpResponse:
    answer = client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": request.GET.get("text", "Hello")}]
    )
    return HttpResponse(answer.choices[0].message.content, content_type="text/plain")


urlpatterns = [path("login/", LoginView.as_view()), path("ask", ask)]
