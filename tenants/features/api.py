"""``/api/v1/features/``: what operators turn on and off, for the platform and for single tenants."""

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from tenants.features import queries
from tenants.features.flags import Feature
from tenants.features.operations import set_feature
from tenants.features.serializers import FeatureChangeSerializer, FeatureSerializer, FeaturesSerializer
from tenants.permissions import Scope
from tenants.rest import PlatformAPIView


class FeatureView(PlatformAPIView):
    read_scope = write_scope = Scope.PLATFORM_TENANTS
    serializer_class = FeatureSerializer


class Features(FeatureView):
    @extend_schema(operation_id="list_features", responses=FeaturesSerializer)
    def get(self, request: Request) -> Response:
        """All of them, with their defaults and what was said about them."""
        self.refuse_unknown(set())
        page = {"next": None, "previous": None, "results": queries.list_states()}
        return Response(FeaturesSerializer(page).data)


class OneFeature(FeatureView):
    def find(self, name: str) -> Feature:
        if name not in Feature.values:
            raise Http404(f"There is no feature {name[:63]!r}; there are {', '.join(Feature.values)}.")
        return Feature(name)

    @extend_schema(operation_id="get_feature")
    def get(self, request: Request, name: str) -> Response:
        self.refuse_unknown(set())
        return Response(FeatureSerializer(queries.find_state(self.find(name))).data)

    @extend_schema(operation_id="set_feature", request=FeatureChangeSerializer)
    def patch(self, request: Request, name: str) -> Response:
        """For the platform, for single tenants, or both. Every gateway follows within `AVB_FEATURE_CACHE_S`; calls in
        progress stay as they are."""
        feature = self.find(name)
        shape = FeatureChangeSerializer(data=request.data)
        shape.is_valid(raise_exception=True)
        for tenant, is_enabled in shape.validated_data.get("tenants", {}).items():
            set_feature(feature=feature, is_enabled=is_enabled, tenant=tenant)
        if "is_enabled" in shape.validated_data:
            set_feature(feature=feature, is_enabled=shape.validated_data["is_enabled"])
        return Response(FeatureSerializer(queries.find_state(feature)).data)
