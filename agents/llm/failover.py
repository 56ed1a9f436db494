"""One language model in front of all: a request is answered by the first of its chain that can.

1. Who has not begun within ``first_token_s`` is left for the next of the chain; an error is left at once. The last of
   the chain has nobody behind it and is given all the time there is.
2. Where the whole chain has failed, those who may do better a little later are asked again after a back-off; never who
   refused the request, the credentials or the rate.
3. Nobody is replaced after the first word: then a failure is a failure.
4. All the waiting for one answer is within ``total_s``. Then, or when nobody is left to ask, the degraded answer comes.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass

from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    wait_exponential_jitter,
)

from agents.egress.breaker import BreakerOpen, Breakers, Permit
from agents.egress.config import EgressConfig
from agents.llm import metrics
from agents.llm.adapter import tls
from agents.llm.attempt import Attempt, Patience, Unusable
from agents.llm.choice import Platform, read_platform
from agents.llm.config import FailoverConfig, read_config
from agents.llm.degraded import Degraded
from agents.llm.pool import Pool
from agents.llm.providers import ModelRef, Provider
from agents.llm.types import Delta, LlmError, Request

COUNTED = ("llm_unavailable", "llm_timeout", "llm_bad_response")
"""What says that a provider is not well, and may be well a little later."""

log = logging.getLogger(__name__)


class NobodyAnswered(Exception):
    """None of a chain has."""


class AskAgain(NobodyAnswered):
    """None of a chain has, but one may in a moment."""


@dataclass(slots=True)
class _Answer:
    """One that has begun. ``attempt`` None: these deltas are all of it."""

    attempt: Attempt | None
    permit: Permit | None
    held: tuple[Delta, ...]
    open: AsyncExitStack


def label_of(provider: Provider) -> str:
    """Metrics name the platform's providers; those of tenants, whose names are theirs, only by their kind."""
    return f"tenant:{provider.kind}" if provider.tenant else provider.name


class Failover:
    """``name`` and ``model`` are of the platform's default. ``sleep`` waits between passes."""

    def __init__(
        self,
        platform: Platform,
        breakers: Breakers,
        pool: Pool,
        config: FailoverConfig | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._platform = platform
        self._breakers = breakers
        self._pool = pool
        self._config = config or FailoverConfig()
        self._sleep = sleep
        self._degraded = Degraded()
        first = platform.default
        self.name = first.provider.name if first and first.provider else self._degraded.name
        self.model = first.model if first else ""

    async def start(self) -> None:
        await self._pool.start()

    async def aclose(self) -> None:
        await self._pool.aclose()

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """As ``LanguageModel.stream``; raises LlmError only after the first word."""
        patience = Patience(self._config.total_s)
        answer = await self._find_answer(request, patience)
        if answer is None:
            metrics.REQUESTS.labels(self._degraded.name, "fallback").inc()
            async with aclosing(self._degraded.stream(request)) as apology:
                async for delta in apology:
                    yield delta
            return
        async with answer.open:
            try:
                for delta in answer.held:
                    yield delta
                if answer.attempt is not None:
                    async with aclosing(answer.attempt.rest()) as deltas:
                        async for delta in deltas:
                            yield delta
            except LlmError as error:
                await _tell(answer.permit, error)
                answer.permit = None
                raise
            finally:
                # Interrupted or not: whoever has begun to answer is well.
                if answer.permit is not None:
                    await answer.permit.succeed()

    async def _find_answer(self, request: Request, patience: Patience) -> _Answer | None:
        chain = [self._platform.complete(ref) for ref in request.models or self._platform.chain]
        config = self._config

        async def sleep(seconds: float) -> None:
            metrics.PASSES.inc()
            await patience.wait(self._sleep(seconds))

        passes = AsyncRetrying(
            sleep=sleep,
            retry=retry_if_exception_type(AskAgain),
            wait=wait_exponential_jitter(
                multiplier=config.backoff_base_s, max=config.backoff_max_s, jitter=config.backoff_base_s / 4
            ),
            stop=lambda state: state.attempt_number >= config.tries or state.upcoming_sleep >= patience.left_s,
            reraise=True,
        )
        try:
            return await passes(self._ask_chain, chain, request, patience)
        except NobodyAnswered as error:
            log.warning("nobody could answer: %s", error or "there is no language model")
            return None

    async def _ask_chain(self, chain: list[ModelRef], request: Request, patience: Patience) -> _Answer:
        """Raises NobodyAnswered, and takes out of the chain who is not to be asked again."""
        failures: list[str] = []
        again: list[ModelRef] = []
        may_do_better = False
        for place, ref in enumerate(chain):
            last = place == len(chain) - 1
            if patience.left_s <= 0:
                break
            try:
                return await self._ask(ref, request, patience, None if last else self._config.first_token_s)
            except BreakerOpen as error:
                reason, words = "breaker_open", str(error)
                again.append(ref)
            except LlmError as error:
                reason, words = error.code, error.message
                if error.code in COUNTED and not isinstance(error, Unusable):
                    again.append(ref)
                    may_do_better = True
            failures.append(words)
            if not last:
                metrics.FAILOVERS.labels(label_of(ref.provider) if ref.provider else "", reason).inc()
                log.info("the next model is asked: %s (%s)", words, reason)
        chain[:] = again
        raise (AskAgain if may_do_better else NobodyAnswered)(" ".join(failures))

    async def _ask(self, ref: ModelRef, request: Request, patience: Patience, first_s: float | None) -> _Answer:
        """Raises LlmError or BreakerOpen."""
        provider = ref.provider
        if provider is None:
            raise LlmError("llm_refused", "The platform has no language model of its own.")
        if not provider.enabled:
            raise LlmError("llm_refused", f"{provider.name} is switched off.")
        async with AsyncExitStack() as stack:
            adapter = await stack.enter_async_context(self._pool.lend(provider, ref.model))
            permit = await self._permit(provider)
            asked_s = patience.left_s
            try:
                for chance in (1, 2):
                    attempt = Attempt(adapter, request, patience, label_of(provider))
                    stack.push_async_callback(attempt.aclose)
                    try:
                        await attempt.begin(first_s)
                        break
                    except Unusable as error:
                        log.warning("%s", error.message)
                        if first_s is not None:
                            raise
                        if chance == 2:
                            if not error.call_anyway:
                                raise
                            # Whoever runs the tool tells the model what is wrong with it.
                            return _Answer(None, permit, error.call_anyway, stack.pop_all())
            except LlmError as error:
                hurried = error.code == "llm_timeout" and asked_s < self._config.first_token_s
                await (permit.drop() if hurried else _tell(permit, error))
                raise
            except BaseException:
                await permit.drop()
                raise
            if not provider.tenant:
                metrics.BREAKER.labels(provider.name).set(0)
            return _Answer(attempt, permit, (), stack.pop_all())

    async def _permit(self, provider: Provider) -> Permit:
        try:
            return await self._breakers.ask(f"llm:{provider.name}", tenant=provider.tenant)
        except BreakerOpen:
            if not provider.tenant:
                metrics.BREAKER.labels(provider.name).set(1)
            raise


async def _tell(permit: Permit | None, error: LlmError) -> None:
    if permit is None:
        return
    unwell = error.code in COUNTED and not isinstance(error, Unusable)
    await (permit.fail() if unwell else permit.drop())


def build(
    environ: Mapping[str, str],
    breakers: Breakers,
    *,
    egress: EgressConfig,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Failover:
    """The language model of a process, by the environment; ``start`` it on the event loop that asks it, and ``aclose``
    it there. Raises ValueError where the environment contradicts itself. Blocks: it may look for an Ollama.
    """
    config = read_config(environ)
    tls()
    pool = Pool(egress, providers=config.pool_providers, idle_s=config.pool_idle_s)
    return Failover(read_platform(environ), breakers, pool, config, sleep=sleep)
