"""The page, in a real browser, of a real loop."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from shared import history
from shared.domain.ledger import Run
from tests.scenarios.living_loop import NO_TRAIN, LivingLoop, tiny_rows

NAME = "paged"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
NASTY = "<img src=x onerror=document.title='taken'>"
REFRESHED = 11_000
"""Milliseconds after which the page has looked again."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser of {', '.join(BROWSERS)} is installed")
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=[*root, "--disable-background-networking"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def run(living: LivingLoop) -> Run:
    """The run that made version 1 of a pipeline whose words are not to be trusted."""
    folder = living.add_tiny(NAME)
    yaml = folder / "pipeline.yaml"
    yaml.write_text(f'{yaml.read_text()}description: "{NASTY}"\n')
    return living.pass_of(NAME, living.land(f"landing/{NAME}/first.csv", tiny_rows(400)))


@pytest.fixture
def page(browser: Browser, living: LivingLoop, run: Run) -> Iterator[Page]:
    """The page with its key entered."""
    with browser.new_context(base_url=living.host.url) as context:
        page = context.new_page()
        page.clock.install()
        page.goto("/api/page")
        enter(page, living.host.keys.function)
        expect(page.get_by_role("link", name=NAME, exact=True)).to_be_visible()
        yield page


def enter(page: Page, key: str) -> None:
    page.get_by_label("Function key").fill(key)
    page.get_by_role("button", name="Open").click()


def test_the_page_asks_for_a_key_and_knows_nothing_without_one(browser: Browser, living: LivingLoop, run: Run) -> None:
    with browser.new_context(base_url=living.host.url) as context:
        page = context.new_page()
        page.goto("/api/page")
        enter(page, "a guess")
        expect(page.get_by_role("alert")).to_have_text("That key does not open it.")
        assert NAME not in page.content()
        enter(page, living.host.keys.function)
        expect(page.get_by_role("link", name=NAME, exact=True)).to_be_visible()
        expect(page.get_by_label("Function key")).to_be_hidden()
        page.reload()
        expect(page.get_by_role("link", name=NAME, exact=True)).to_be_visible()


def test_a_pipeline_is_shown_with_its_champion_traffic_and_last_run(page: Page, run: Run) -> None:
    card = page.locator("section").filter(has=page.get_by_role("link", name=NAME, exact=True))
    for said in ("version 1", "v1 100 %", run.id, "succeeded", run.reason, "not checked yet"):
        expect(card).to_contain_text(said)


def test_a_run_tells_its_story_its_gate_and_its_decisions(page: Page, living: LivingLoop, run: Run) -> None:
    page.get_by_role("link", name=run.id).first.click()
    expect(page.get_by_role("heading", name=run.id)).to_be_visible()
    told = history.run(living.loop, NAME, run.id)
    view = page.locator("#view")
    for step in told["steps"]:
        expect(view).to_contain_text(step["note"])
    for rule in told["model"]["verdict"]["rules"]:
        expect(view).to_contain_text(rule["text"])
    for decision in told["decisions"]:
        expect(view).to_contain_text(decision["reason"])
    expect(view).to_contain_text(told["log"][-1])
    page.go_back()
    expect(page.get_by_role("heading", name=NAME)).to_be_visible()


def test_asked_why_it_answers_and_leads_on(page: Page, run: Run) -> None:
    question = page.get_by_role("search").get_by_role("textbox")
    question.fill(f"landing/{NAME}/first.csv")
    question.press("Enter")
    expect(page.locator("#view")).to_contain_text("joined batch b000001")
    page.get_by_role("link", name=f"{NAME}:1").first.click()
    expect(page.get_by_role("heading", name=f"Why: {NAME}:1")).to_be_visible()
    question.fill("who knows")
    question.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("nothing was ever decided about 'who knows'")
    expect(page.locator("#view")).to_be_empty()


def test_what_the_loop_says_is_text_and_only_the_page_s_own_script_runs(page: Page) -> None:
    expect(page.get_by_text(NASTY)).to_be_visible()
    assert page.locator("img").count() == 0
    page.evaluate("""
        const script = document.createElement("script");
        script.textContent = "document.title = 'taken'";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", "<img src=x onerror=\\"document.title = 'taken'\\">");
    """)
    assert page.title() == "Landfall"


def test_it_looks_again_by_itself_and_says_when_the_app_is_gone(page: Page, living: LivingLoop, run: Run) -> None:
    (living.pipelines / NAME / "train.py").write_text(NO_TRAIN)
    failed = living.pass_of(NAME, living.land(f"landing/{NAME}/second.csv", tiny_rows(50, start=400)))
    assert failed.status == "failed"
    page.clock.run_for(REFRESHED)
    expect(page.get_by_role("link", name=failed.id)).to_be_visible()
    page.context.set_offline(True)
    page.clock.run_for(REFRESHED)
    expect(page.get_by_role("alert")).to_have_text("The app does not answer.")
    expect(page.get_by_role("link", name=failed.id)).to_be_visible()
    page.context.set_offline(False)
    page.clock.run_for(REFRESHED)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_the_command_leads_a_browser_to_the_page_and_the_key_stays_out_of_sight(
    browser: Browser, living: LivingLoop, run: Run
) -> None:
    done = living.command("page", "--no-browser")
    assert done.returncode == 0, done.stderr
    assert living.host.keys.function not in done.stdout
    lead = Path(done.stdout.partition(" leads to the page")[0])
    assert stat.S_IMODE(lead.stat().st_mode) == 0o600
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(lead.as_uri())
        expect(page.get_by_role("link", name=NAME, exact=True)).to_be_visible()
        assert page.url == f"{living.host.url}/api/page#/"
