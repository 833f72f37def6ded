"""Records as eight services write them: bodies of about 200 bytes, a fifth of them Korean, no two alike."""

from __future__ import annotations

import random

import numpy as np
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from bench.templates import Template, decimal, fixed64_mark, text_mark

RECORDS = 1000
KOREAN_SHARE = 0.2
_BODY_BYTES = 200
_TEMPLATES = 32
_STEP_NS = 500_000_000
_DIGITS = 12
_TIME = 1
_SERVICES = ("frontend", "cart", "catalog", "payment", "shipping", "recommendation", "inventory", "account")
_LEVELS = ((5, "DEBUG", 0.2), (9, "INFO", 0.66), (13, "WARN", 0.1), (17, "ERROR", 0.04))
_OPENINGS = (
    "GET /items/{} answered 200 in {} ms",
    "POST /checkout answered 201 in {} ms for customer {}",
    "cache miss for key item:{} after {} ms, reading from the database",
    "order {} reserved {} units in the warehouse",
    "retrying the call to the payment provider, attempt {} of {}",
    "session {} expired after {} seconds",
    "connection to 10.0.{}.{} closed by the other side",
)
_KOREAN_OPENINGS = (
    "주문 {} 결제가 {} 밀리초 만에 승인되었습니다",
    "상품 {} 재고가 부족하여 {}개를 다시 주문합니다",
    "배송 {} 출발이 {}분 늦어집니다",
    "고객 {} 로그인에 실패했습니다, {}번째 시도",
)
_WORDS = (
    "request response timeout upstream downstream latency budget customer basket inventory shipment invoice currency "
    "discount campaign warehouse courier tracking refund voucher session token cookie header payload schema version "
    "rollout region replica shard partition offset commit consumer producer broker queue worker thread pool memory "
    "garbage collection pause retry backoff circuit breaker limit quota tenant account profile address postcode street "
    "catalogue category product variant colour size weight price margin tax total subtotal rounding exchange rate"
)
_KOREAN_WORDS = (
    "주문 결제 배송 재고 상품 고객 장바구니 쿠폰 할인 환불 취소 창고 택배 송장 주소 회원 로그인 인증 세션 요청 응답 "
    "지연 시간 초과 오류 재시도 성공 실패 서버 연결 데이터베이스 조회 저장 갱신 삭제 검색 추천 순위 가격 세금 합계"
)


class LogPayloads:
    """Requests of 1,000 records, half a millisecond apart.

    Args:
        base_ns: The time of the first record.
    """

    items = RECORDS
    period = 1
    step_ns = _STEP_NS

    def __init__(self, base_ns: int) -> None:
        self._base_ns = base_ns
        self._templates = [
            Template(_message(random.Random(seed)).SerializeToString(), {_TIME: 8}, (_DIGITS,))
            for seed in range(_TEMPLATES)
        ]
        self._offsets = np.arange(RECORDS, dtype=np.int64) * (_STEP_NS // RECORDS)

    def request(self, number: int) -> bytes:
        """The request of a number."""
        first = self._base_ns + number * _STEP_NS
        jitter = np.random.Generator(np.random.SFC64([number, 2])).integers(0, _STEP_NS // RECORDS, RECORDS)
        numbers = np.arange(number * RECORDS, (number + 1) * RECORDS, dtype=np.int64)
        return self._templates[number % _TEMPLATES].fill(
            {
                str(_TIME): (first + self._offsets + jitter).view(np.uint8).reshape(RECORDS, 8),
                f"text {_DIGITS}": decimal(numbers, _DIGITS),
            }
        )


def _message(source: random.Random) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    per_service = RECORDS // len(_SERVICES)
    for at, service in enumerate(_SERVICES):
        group = request.resource_logs.add()
        for key, value in (
            ("service.name", service),
            ("host.name", f"host-{source.randrange(40):03d}"),
            ("deployment.environment.name", "production"),
        ):
            group.resource.attributes.add(key=key).value.string_value = value
        scope = group.scope_logs.add()
        for index in range(at * per_service, (at + 1) * per_service):
            number, text = source.choices([level[:2] for level in _LEVELS], [level[2] for level in _LEVELS])[0]
            time = fixed64_mark(_TIME, index)
            record = scope.log_records.add(
                time_unix_nano=time, observed_time_unix_nano=time, severity_number=number, severity_text=text
            )
            record.body.string_value = _body(source, index)
            record.attributes.add(key="thread").value.string_value = f"worker-{source.randrange(16)}"
            record.attributes.add(key="http.response.status_code").value.int_value = source.choice((200, 200, 201, 404))
            record.attributes.add(key="duration_ms").value.double_value = round(source.expovariate(0.05), 1)
    return request


def _body(source: random.Random, index: int) -> str:
    korean = source.random() < KOREAN_SHARE
    opening = source.choice(_KOREAN_OPENINGS if korean else _OPENINGS)
    words = (_KOREAN_WORDS if korean else _WORDS).split()
    body = opening.format(source.randrange(1, 100_000), source.randrange(1, 250)) + f" [{text_mark(index, _DIGITS)}]"
    # Common words are far more common than rare ones.
    weights = [1 / (rank + 4) for rank in range(len(words))]
    for word in source.choices(words, weights, k=_BODY_BYTES // 2):
        if len(body.encode()) >= _BODY_BYTES - 4:
            break
        body += " " + word
    return body
