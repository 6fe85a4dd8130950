"""Who may see the page: whoever may read the XComs of a DAG.

All names that aren't part of Airflow's public interface are here.
"""

from __future__ import annotations

from collections.abc import Container
from functools import cache
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models.dag import DagModel
from fastapi import Depends

# The page shows what is in XComs; whoever may read those of a DAG may see the page for that DAG.
MAY_SEE_THE_PAGE = Depends(requires_access_dag("GET", DagAccessEntity.XCOM))


class _DagsOf:
    """The DAGs whose XComs a user may read; which other DAGs a user may read doesn't matter."""

    def __init__(self, user: Any) -> None:
        self._user = user
        self._dag_ids = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
        self._may_read_xcoms = cache(self._ask)

    def __contains__(self, dag_id: object) -> bool:
        return dag_id in self._dag_ids and self._may_read_xcoms(str(dag_id))

    def _ask(self, dag_id: str) -> bool:
        return get_auth_manager().is_authorized_dag(
            method="GET",
            access_entity=DagAccessEntity.XCOM,
            details=DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id)),
            user=self._user,
        )


def _readable_dags(user: GetUserDep) -> _DagsOf:
    return _DagsOf(user)


class Rights:
    """What a user may do to DAGs; Airflow's API checks the same before it acts."""

    def __init__(self, user: Any) -> None:
        self._user = user

    def trigger(self, dag_id: str) -> bool:
        """Whether the user may start a run."""
        return self._may("POST", dag_id, DagAccessEntity.RUN)

    def pause(self, dag_id: str) -> bool:
        """Whether the user may pause and unpause the DAG."""
        return self._may("PUT", dag_id, None)

    def _may(self, method: Any, dag_id: str, entity: DagAccessEntity | None) -> bool:
        return get_auth_manager().is_authorized_dag(
            method=method,
            access_entity=entity,
            details=DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id)),
            user=self._user,
        )


def _rights(user: GetUserDep) -> Rights:
    return Rights(user)


# What the user of a request may do to DAGs.
UserRights = Annotated[Rights, Depends(_rights)]

# Whether the user of a request may read a DAG, as ``dag_id in readable``.
ReadableDags = Annotated[Container[str], Depends(_readable_dags)]
