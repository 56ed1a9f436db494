"""Lists, a page at a time: ``?cursor=`` continues where the last page ended, ``?limit=`` asks for a page size."""

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError as ValidationFault
from django.db import DataError
from django.db.models import QuerySet
from rest_framework.exceptions import ErrorDetail, NotFound, ValidationError
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response

NEXT_PAGE = "https://voice.example.com{path}?cursor=cD0yMDI3LTAxLTE1"
"""How such an address looks; an example."""


class Pages(CursorPagination):
    """A subclass names the ``ordering``; its last field is unique, or rows get lost between pages."""

    page_size_query_param = "limit"
    page_size_query_description = "Rows per page; `AVB_API_PAGE_SIZE` when not given, at most `AVB_API_MAX_PAGE_SIZE`."
    cursor_query_description = "The `cursor` of the `next` or `previous` address of another page."

    def get_page_size(self, request: Request) -> int:
        asked = request.query_params.get("limit")
        if asked is None:
            return settings.API_PAGE_SIZE
        # More digits than the limit has cannot be within it, and Python refuses to read very many.
        fits = asked.isascii() and asked.isdecimal() and len(asked) <= len(str(settings.API_MAX_PAGE_SIZE))
        if not fits or not 1 <= int(asked) <= settings.API_MAX_PAGE_SIZE:
            words = f"'limit' is a number from 1 to {settings.API_MAX_PAGE_SIZE}; got {asked[:20]!r}."
            raise ValidationError({"limit": [ErrorDetail(words, "invalid")]})
        return int(asked)

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """For the OpenAPI document."""
        address = {"type": ["string", "null"], "format": "uri", "example": NEXT_PAGE.format(path="/api/v1/agents/")}
        properties = {
            "next": {**address, "description": "The address of the next page; null: this is the last."},
            "previous": {**address, "description": "The address of the page before; null: this is the first."},
            "results": schema,
        }
        return {"type": "object", "required": list(properties), "properties": properties}

    def paginate_queryset(self, queryset: QuerySet[Any], request: Request, view: Any = None) -> list[Any] | None:
        """Raises ValidationError for a cursor that is none of ours.

        It is the caller's: what it decodes to need not be a time, a number or a text that PostgreSQL can hold.
        """
        try:
            return super().paginate_queryset(queryset, request, view)
        except (NotFound, ValidationFault, DataError, ValueError) as error:
            if self.cursor_query_param not in request.query_params:
                raise
            words = "This is no cursor of this list; take it from 'next' or 'previous' of another page."
            raise ValidationError({self.cursor_query_param: [ErrorDetail(words, "invalid_cursor")]}) from error

    def _get_position_from_instance(self, instance: Any, ordering: Any) -> str:
        """As DRF's, and of a related row's field too, such as ``user__email``."""
        field, *path = ordering[0].lstrip("-").split("__")
        value = instance[field] if isinstance(instance, dict) else getattr(instance, field)
        for name in path:
            value = getattr(value, name)
        return str(value)


def answer_page(view: Any, rows: QuerySet[Any], shape: type[Any]) -> Response:
    """The page of ``rows`` that was asked for, by the view's ``pagination_class``, each row as ``shape`` shows it."""
    pages = view.pagination_class()
    found = pages.paginate_queryset(rows, view.request, view)
    return pages.get_paginated_response(shape(found, many=True).data)
