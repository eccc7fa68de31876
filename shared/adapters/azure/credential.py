"""The app's identity on Azure: one for all adapters."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, AccessTokenInfo
    from azure.identity import DefaultAzureCredential


class AppCredential:
    """A TokenCredential of the Azure clients, made when the first token is asked for.

    In Azure it is the app's managed identity, the user-assigned one ``client_id`` if that is given; on a
    developer's machine who is signed in to the Azure command line. Nobody is ever asked to sign in, and
    tokens are kept in memory only.
    """

    def __init__(self, client_id: str = "") -> None:
        self._client_id = client_id
        self._lock = threading.Lock()
        self._credential: DefaultAzureCredential | None = None

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """A token for ``scopes``. Raises the Azure clients' ClientAuthenticationError when none can be had."""
        return self._made().get_token(*scopes, **options)

    def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        """The same with when to renew it."""
        return self._made().get_token_info(*scopes, options=options)

    def _made(self) -> DefaultAzureCredential:
        with self._lock:
            if self._credential is None:
                from azure.identity import DefaultAzureCredential

                self._credential = DefaultAzureCredential(
                    managed_identity_client_id=self._client_id or None,
                    exclude_interactive_browser_credential=True,
                    exclude_broker_credential=True,
                    exclude_shared_token_cache_credential=True,
                    exclude_visual_studio_code_credential=True,
                )
            return self._credential
