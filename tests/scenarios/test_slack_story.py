"""One real process in Slack: asked, followed up, rated, handed on, killed and started again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from metaflowbot.slack.actions import HANDED_ON
from metaflowbot.slack.rendering import FEEDBACK_ACTION, HUMAN_ACTION
from tests.openai_double import OpenAIDouble
from tests.process import Process
from tests.scenarios.test_first_run import Run, model_at, run, server, workspace
from tests.slack_double import SlackDouble
from tests.slack_world import is_whole, shown
from tests.small_index import OFF_TOPIC, RETRY

pytest_plugins = ["tests.prebuilt"]
__all__ = ["run", "server"]


class Story:
    """A process in a workspace, and Ann who talks to it."""

    def __init__(self, run: Run, slack: SlackDouble, channel: str, ann: str) -> None:
        self._run = run
        self.slack = slack
        self.channel = channel
        self.ann = ann

    def start(self, transport: str, **environment: str) -> Process:
        token = {
            "socket": {"SLACK_APP_TOKEN": self.slack.app_token},
            "http": {"SLACK_SIGNING_SECRET": self.slack.signing_secret},
        }[transport]
        common = {"SLACK_BOT_TOKEN": self.slack.bot_token, "SLACK_API_URL": self.slack.api_url}
        process = self._run("serve", **common, **token, **environment)
        process.line("ready: index")
        if transport == "http":
            self.slack.http_endpoint = f"{process.address}/slack/events"
        else:
            process.until(lambda: self.slack.sockets == 1)
        return process

    def ask(self, text: str) -> str:
        return self.slack.say(self.channel, self.ann, f"<@{self.slack.bot_user_id}> {text}")

    def replies(self, ts: str) -> list[dict[str, Any]]:
        return [each for each in self.slack.thread(self.channel, ts) if each.get("bot_id")]

    def answered(self, process: Process, ts: str, count: int = 1) -> dict[str, Any]:
        """The newest answer, once there are so many and they are whole."""
        process.until(lambda: sum(map(is_whole, self.replies(ts))) >= count)
        return self.replies(ts)[-1]


@pytest.fixture
def story(run: Run) -> Iterator[Story]:
    with workspace() as (slack, channel, ann):
        yield Story(run, slack, channel, ann)


@pytest.mark.parametrize("transport", ["socket", "http"])
def test_a_question_is_answered_followed_up_rated_and_handed_on(
    story: Story, server: OpenAIDouble, transport: str
) -> None:
    process = story.start(transport, **model_at(server))
    ts = story.ask(RETRY)
    first = story.answered(process, ts)
    assert "docs.metaflow.org/scaling/failures" in shown(first)
    assert first["blocks"][0]["type"] == "plan"
    story.slack.say(story.channel, story.ann, "And how do I set a timeout?", thread_ts=ts)
    story.answered(process, ts, count=2)
    answer_id = first["metadata"]["event_payload"]["answer_id"]
    click = story.slack.click
    click(story.channel, first["ts"], FEEDBACK_ACTION, story.ann, value=f"down:{answer_id}")
    modal = process.until(lambda: story.slack.modal(story.ann))
    story.slack.submit(modal["id"], story.ann, {"reason": "outdated", "words": "too old"})
    click(story.channel, first["ts"], HUMAN_ACTION, story.ann)
    process.until(lambda: any(each.text == HANDED_ON for each in story.slack.ephemerals))
    story.slack.open_home(story.ann)
    home = process.until(lambda: story.slack.home(story.ann))
    assert "with the maintainers: open" in shown(home)
    assert process.stop() == 0
    assert "Traceback" not in process.said


def test_an_answer_that_was_cut_off_by_a_kill_is_made_whole_after_the_restart(
    story: Story, server: OpenAIDouble
) -> None:
    server.hang(40)
    process = story.start("socket", **model_at(server))
    ts = story.ask(RETRY)
    process.until(lambda: story.replies(ts))
    half = story.replies(ts)[0]["ts"]
    process.kill()
    assert not is_whole(story.replies(ts)[0])
    again = story.start("socket", METAFLOWBOT_CHAT_MODEL="none")
    whole = story.answered(again, ts)
    assert whole["ts"] == half
    assert "docs.metaflow.org/scaling/failures" in shown(whole)
    assert len(story.replies(ts)) == 1


def test_what_is_not_covered_is_said_to_be_without_a_model(story: Story) -> None:
    process = story.start("socket")
    reply = story.answered(process, story.ask(OFF_TOPIC))
    assert "no answer found" in shown(reply)
