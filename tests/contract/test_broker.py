"""The contract of the broker: what a daemon may rely on, in memory and on RabbitMQ."""

import asyncio

import pytest

from mr.errors import BadMessage, Unroutable
from mr.ports.broker import Broker, Delivery, OutgoingMessage, QueueDepth
from mr.protocol.codec import JSON, MAX_MESSAGE_BYTES
from mr.protocol.queues import (
    CONTROL_EXCHANGE,
    DEAD_QUEUE,
    EVENTS_EXCHANGE,
    JOBS_QUEUE,
    REPORTS_QUEUE,
    TASKS_QUEUE,
)
from tests.contract.conftest import OpenBroker
from tests.contract.inbox import Inbox, depth_is, to
from tests.support.waiting import eventually


async def settled_barrier(broker: Broker) -> None:
    """Return when the broker has processed everything sent before on this connection."""
    inbox = Inbox()
    consumer = await broker.consume(DEAD_QUEUE, inbox, prefetch=1)
    await broker.publish(to(DEAD_QUEUE, b"barrier"))
    await inbox.take(1)
    await inbox.deliveries[0].ack()
    await consumer.cancel()


# --- publishing


async def test_a_message_arrives_as_it_was_sent(new_broker: OpenBroker) -> None:
    one, two, inbox = await new_broker(), await new_broker(), Inbox()
    await two.consume(REPORTS_QUEUE, inbox, prefetch=10)
    message = to(
        REPORTS_QUEUE,
        b"\x00\xff",
        content_type=JSON,
        type="cancel",
        reply_to="answers",
        correlation_id="17",
        headers={"reason": "none"},
    )
    await one.publish(message)
    (delivery,) = await inbox.take(1)
    assert (delivery.body, delivery.content_type, delivery.type) == (b"\x00\xff", JSON, "cancel")
    assert (delivery.reply_to, delivery.correlation_id) == ("answers", "17")
    assert (delivery.routing_key, delivery.redelivered) == (REPORTS_QUEUE, False)
    assert delivery.headers == {"reason": "none"}
    await delivery.ack()


async def test_absent_properties_are_none(broker: Broker) -> None:
    inbox = Inbox()
    await broker.consume(REPORTS_QUEUE, inbox, prefetch=10)
    await broker.publish(to(REPORTS_QUEUE))
    (delivery,) = await inbox.take(1)
    assert (delivery.type, delivery.reply_to, delivery.correlation_id) == (None, None, None)
    assert delivery.headers == {}


async def test_many_publishes_are_confirmed_together(broker: Broker) -> None:
    await asyncio.gather(*(broker.publish(to(TASKS_QUEUE, b"%d" % number)) for number in range(1500)))
    assert await broker.depth(TASKS_QUEUE) == QueueDepth(1500, 0)


async def test_a_message_over_the_limit_is_refused(broker: Broker) -> None:
    with pytest.raises(BadMessage):
        await broker.publish(to(TASKS_QUEUE, bytes(MAX_MESSAGE_BYTES + 1)))
    await broker.publish(to(TASKS_QUEUE, bytes(MAX_MESSAGE_BYTES)))
    assert (await broker.depth(TASKS_QUEUE)).ready == 1


async def test_a_name_that_no_queue_can_have_is_refused(broker: Broker) -> None:
    with pytest.raises(BadMessage):
        await broker.publish(to("9" * 256))
    await broker.publish(to("9" * 255))


async def test_an_answer_to_a_client_that_has_left_is_dropped(broker: Broker) -> None:
    await broker.publish(to("no-such-queue"))
    await broker.publish(OutgoingMessage(exchange=EVENTS_EXCHANGE, routing_key="job.done.x", body=b"x"))
    assert (await broker.depth(TASKS_QUEUE)).ready == 0


# --- order and prefetch


async def test_higher_priority_goes_first_and_equals_in_order(broker: Broker) -> None:
    for body, priority in ((b"low 1", 0), (b"low 2", 0), (b"high 1", 9), (b"middle", 4), (b"high 2", 9)):
        await broker.publish(to(TASKS_QUEUE, body, priority=priority))
    inbox = Inbox()
    await broker.consume(TASKS_QUEUE, inbox, prefetch=10)
    await inbox.holds(b"high 1", b"high 2", b"middle", b"low 1", b"low 2")


async def test_a_consumer_holds_no_more_than_its_prefetch(broker: Broker) -> None:
    inbox = Inbox()
    await broker.consume(TASKS_QUEUE, inbox, prefetch=2)
    for number in range(5):
        await broker.publish(to(TASKS_QUEUE, b"%d" % number))
    await inbox.holds(b"0", b"1")
    await depth_is(broker, TASKS_QUEUE, 3)
    await inbox.deliveries[0].ack()
    await inbox.holds(b"0", b"1", b"2")
    await depth_is(broker, TASKS_QUEUE, 2)


async def test_a_message_goes_to_the_consumer_with_room(new_broker: OpenBroker) -> None:
    one, two, busy, free = await new_broker(), await new_broker(), Inbox(), Inbox()
    await one.publish(to(TASKS_QUEUE, b"long"))
    await one.consume(TASKS_QUEUE, busy, prefetch=1)
    await busy.take(1)
    await two.consume(TASKS_QUEUE, free, prefetch=3)
    for number in range(3):
        await one.publish(to(TASKS_QUEUE, b"%d" % number))
    await free.holds(b"0", b"1", b"2")
    assert busy.bodies == [b"long"]


async def test_prefetch_grows(broker: Broker) -> None:
    inbox = Inbox()
    consumer = await broker.consume(TASKS_QUEUE, inbox, prefetch=1)
    for number in range(6):
        await broker.publish(to(TASKS_QUEUE, b"%d" % number))
    await inbox.take(1)
    await consumer.set_prefetch(3)
    await inbox.holds(b"0", b"1", b"2")
    await depth_is(broker, TASKS_QUEUE, 3)
    for delivery in tuple(inbox.deliveries):
        await delivery.ack()
    await inbox.holds(b"0", b"1", b"2", b"3", b"4", b"5")


async def test_prefetch_shrinks_and_counts_what_is_still_unsettled(broker: Broker) -> None:
    inbox = Inbox()
    consumer = await broker.consume(TASKS_QUEUE, inbox, prefetch=3)
    for number in range(6):
        await broker.publish(to(TASKS_QUEUE, b"%d" % number))
    await inbox.take(3)
    await consumer.set_prefetch(2)
    await inbox.deliveries[0].ack()
    await settled_barrier(broker)
    assert inbox.bodies == [b"0", b"1", b"2"]
    await inbox.deliveries[1].ack()
    await inbox.holds(b"0", b"1", b"2", b"3")
    await depth_is(broker, TASKS_QUEUE, 2)


async def test_a_paused_consumer_gets_nothing_but_may_settle(broker: Broker) -> None:
    inbox = Inbox()
    consumer = await broker.consume(TASKS_QUEUE, inbox, prefetch=1)
    await broker.publish(to(TASKS_QUEUE, b"first"))
    await inbox.take(1)
    await consumer.set_prefetch(0)
    await broker.publish(to(TASKS_QUEUE, b"second"))
    await inbox.deliveries[0].ack()
    await settled_barrier(broker)
    assert await broker.depth(TASKS_QUEUE) == QueueDepth(1, 0)
    await consumer.set_prefetch(1)
    await inbox.holds(b"first", b"second")


async def test_a_consumer_may_start_paused(broker: Broker) -> None:
    inbox = Inbox()
    consumer = await broker.consume(TASKS_QUEUE, inbox, prefetch=0)
    await broker.publish(to(TASKS_QUEUE))
    assert await broker.depth(TASKS_QUEUE) == QueueDepth(1, 0)
    await consumer.set_prefetch(1)
    await inbox.holds(b"x")


# --- settling


async def test_a_settled_message_is_not_delivered_again(new_broker: OpenBroker) -> None:
    one, two, inbox = await new_broker(), await new_broker(), Inbox()
    await one.consume(TASKS_QUEUE, inbox, prefetch=10)
    for body in (b"done", b"dropped"):
        await one.publish(to(TASKS_QUEUE, body))
    done, dropped = await inbox.take(2)
    await done.ack()
    await done.ack()
    await dropped.reject(requeue=False)
    await one.close()
    await depth_is(two, TASKS_QUEUE, 0)


async def test_a_requeued_message_is_delivered_again_and_marked(broker: Broker) -> None:
    inbox = Inbox()
    await broker.consume(TASKS_QUEUE, inbox, prefetch=1)
    await broker.publish(to(TASKS_QUEUE))
    (first,) = await inbox.take(1)
    await first.reject(requeue=True)
    _, second = await inbox.take(2)
    assert (first.redelivered, second.redelivered) == (False, True)
    await second.ack()


async def test_what_a_closed_client_held_goes_to_another_in_its_old_place(new_broker: OpenBroker) -> None:
    one, two, lost, inbox = await new_broker(), await new_broker(), Inbox(), Inbox()
    await one.consume(TASKS_QUEUE, lost, prefetch=2)
    for number in range(3):
        await one.publish(to(TASKS_QUEUE, b"%d" % number))
    held, _ = await lost.take(2)
    await one.close()
    await held.ack()
    await depth_is(two, TASKS_QUEUE, 3)
    await two.consume(TASKS_QUEUE, inbox, prefetch=5)
    await inbox.holds(b"0", b"1", b"2")
    assert [delivery.redelivered for delivery in inbox.deliveries] == [True, True, False]


async def test_a_closed_client_connects_again_as_if_new(new_broker: OpenBroker) -> None:
    one, two, held, came = await new_broker(), await new_broker(), Inbox(), Inbox()

    async def fail(delivery: Delivery) -> None:
        raise RuntimeError("raised before it was closed")

    await one.consume(REPORTS_QUEUE, held, prefetch=5)
    await two.consume(REPORTS_QUEUE, came, prefetch=5)
    await one.publish(to(REPORTS_QUEUE, b"a"))
    await held.holds(b"a")
    await one.consume(DEAD_QUEUE, fail, prefetch=1)
    await one.publish(to(DEAD_QUEUE, b"b"))
    assert str(await one.failed()) == "raised before it was closed"
    await one.close()
    await one.connect()
    await came.holds(b"a")
    failing = asyncio.create_task(one.failed())
    await one.publish(to(REPORTS_QUEUE, b"c"))
    await came.holds(b"a", b"c")
    assert not failing.done()
    failing.cancel()


async def test_a_cancelled_consumer_may_still_settle(new_broker: OpenBroker) -> None:
    one, two, inbox = await new_broker(), await new_broker(), Inbox()
    consumer = await one.consume(TASKS_QUEUE, inbox, prefetch=2)
    for body in (b"first", b"second"):
        await one.publish(to(TASKS_QUEUE, body))
    first, second = await inbox.take(2)
    await consumer.cancel()
    await consumer.cancel()
    await first.ack()
    await second.reject(requeue=True)
    await depth_is(two, TASKS_QUEUE, 1)
    assert (await two.depth(TASKS_QUEUE)).consumers == 0


# --- kinds of queues


@pytest.mark.parametrize("queue", [JOBS_QUEUE, REPORTS_QUEUE])
async def test_of_several_consumers_the_oldest_is_served(new_broker: OpenBroker, queue: str) -> None:
    one, two, first, second = await new_broker(), await new_broker(), Inbox(), Inbox()
    await one.consume(queue, first, prefetch=1)
    await two.consume(queue, second, prefetch=10)
    for number in range(3):
        await two.publish(to(queue, b"%d" % number))
    await first.holds(b"0")
    await depth_is(two, queue, 2)
    assert second.bodies == []
    await one.close()
    # RabbitMQ 4.3 hands over what is ready before what comes back.
    await second.take(3)
    assert sorted(second.bodies) == [b"0", b"1", b"2"]


@pytest.mark.parametrize(
    ("binding", "arrive"),
    [
        ("#", ["job.done.a", "job.done.b", "task.done.a", "job.failed.a"]),
        ("job.*.a", ["job.done.a", "job.failed.a"]),
        ("*.done.*", ["job.done.a", "job.done.b", "task.done.a"]),
        ("job.#", ["job.done.a", "job.done.b", "job.failed.a"]),
        ("job.*", []),
        ("job.done.b", ["job.done.b"]),
    ],
)
async def test_events_are_routed_by_topic(broker: Broker, binding: str, arrive: list[str]) -> None:
    inbox, everything = Inbox(), Inbox()
    await broker.subscribe(EVENTS_EXCHANGE, binding, inbox)
    await broker.subscribe(EVENTS_EXCHANGE, "#", everything)
    for key in ("job.done.a", "job.done.b", "task.done.a", "job.failed.a"):
        await broker.publish(OutgoingMessage(exchange=EVENTS_EXCHANGE, routing_key=key, body=key.encode()))
    await everything.take(4)
    await inbox.holds(*(key.encode() for key in arrive))
    assert [delivery.routing_key for delivery in inbox.deliveries] == arrive


async def test_control_messages_reach_every_worker(new_broker: OpenBroker) -> None:
    one, two, inboxes = await new_broker(), await new_broker(), [Inbox(), Inbox(), Inbox()]
    order = OutgoingMessage(exchange=CONTROL_EXCHANGE, routing_key="", body=b"drain")
    await one.publish(order)
    leaver = await one.subscribe(CONTROL_EXCHANGE, "", inboxes[0])
    await one.subscribe(CONTROL_EXCHANGE, "", inboxes[1])
    await two.subscribe(CONTROL_EXCHANGE, "", inboxes[2])
    await two.publish(order)
    for inbox in inboxes:
        await inbox.holds(b"drain")
    await leaver.cancel()
    await two.publish(order)
    for inbox in inboxes[1:]:
        await inbox.holds(b"drain", b"drain")
    assert inboxes[0].bodies == [b"drain"]


# --- private queues


async def finds(broker: Broker, queue: str) -> bool:
    """Whether a message to this queue is routed."""
    try:
        await broker.publish(to(queue, persistent=False, mandatory=True))
    except Unroutable:
        return False
    return True


@pytest.mark.parametrize("exchange", ["", CONTROL_EXCHANGE])
@pytest.mark.parametrize("name", ["", "mr.coordinator.one"])
async def test_a_private_queue_is_found_until_its_client_leaves(
    new_broker: OpenBroker, exchange: str, name: str
) -> None:
    one, two, inbox = await new_broker(), await new_broker(), Inbox()
    consumer = await one.subscribe(exchange, "", inbox, name=name)
    assert name in ("", consumer.queue_name)
    assert await finds(two, consumer.queue_name)
    await inbox.take(1)
    await one.close()
    await eventually(lambda: is_gone(two, consumer.queue_name))


async def is_gone(broker: Broker, queue: str) -> bool:
    return not await finds(broker, queue)


async def test_a_private_queue_goes_with_its_consumer(new_broker: OpenBroker) -> None:
    one, two = await new_broker(), await new_broker()
    consumer = await one.subscribe("", "", Inbox())
    await consumer.cancel()
    await eventually(lambda: is_gone(two, consumer.queue_name))


async def test_a_private_queue_without_an_exchange_gets_no_control_messages(new_broker: OpenBroker) -> None:
    one, inbox = await new_broker(), Inbox()
    consumer = await one.subscribe("", "", inbox)
    await one.publish(OutgoingMessage(exchange=CONTROL_EXCHANGE, routing_key="", body=b"order"))
    await one.publish(to(consumer.queue_name, b"to it alone"))
    assert [delivery.body for delivery in await inbox.take(1)] == [b"to it alone"]
