"""Tokens per minute: what a key has left, and when it gets them back."""

from realtime.runtime.budget import TokenBudget, TokenBudgets


def test_tokens_come_back_after_a_minute() -> None:
    now = [0.0]
    budget = TokenBudget(100, lambda: now[0])
    assert budget.spend(30) == (70, 60.0)
    now[0] = 20.0
    assert budget.spend(90) == (0, 60.0)
    now[0] = 60.0
    assert budget.spend(0) == (10, 20.0)
    now[0] = 80.0
    assert budget.spend(0) == (100, 0.0)


def test_calls_of_one_key_share_a_budget_and_the_last_one_takes_it_along() -> None:
    budgets = TokenBudgets(100, lambda: 0.0)
    first, second = budgets.enter("a"), budgets.enter("a")
    assert first is second
    assert budgets.enter("b") is not first
    first.spend(60)
    budgets.leave("a")
    assert budgets.enter("a").spend(0)[0] == 40
    budgets.leave("a")
    budgets.leave("a")
    assert budgets.enter("a").spend(0)[0] == 100
