"""The chart renders, is valid, and every object refers only to what is there by then."""

import copy
import re

import kubernetes_validate
import pytest
import yaml
from helm_python import HelmError, lint

from chart_readme import with_table
from conftest import CHART, ROOT, VALUE_SETS, rendered, values_of

# What the operator brings, by the names in `ci/`.
BROUGHT = {
    ("Secret", name)
    for name in (
        "quarry-database", "quarry-bucket", "quarry-admin", "quarry-roles", "quarry-tls",
        "quarry-agent", "pull",
    )
}
# What every namespace has.
BROUGHT.add(("ConfigMap", "kube-root-ca.crt"))
# Objects of other projects' definitions, which the schemas do not hold.
FOREIGN = {"GRPCRoute", "HTTPRoute", "ServiceMonitor", "PrometheusRule"}


def kinds(objects, kind):
    return {one["metadata"]["name"]: one for one in objects if one["kind"] == kind}


def pods(objects):
    for one in objects:
        if one["kind"] in ("Deployment", "DaemonSet", "Job"):
            yield one, one["spec"]["template"]["spec"]


def test_there_are_value_sets():
    assert len(VALUE_SETS) >= 6


def test_lint_is_strict_and_silent(value_set):
    report = lint(CHART, value_set, strict=True)
    assert [m for m in report["messages"] if m["severity"] >= 2] == []
    assert report["errors"] == []


def test_every_object_is_valid(value_set):
    objects = rendered(value_set)
    assert len(objects) > 4
    for one in objects:
        if one["kind"] in FOREIGN:
            continue
        kubernetes_validate.validate(one, "1.34", strict=True)


def test_names_are_unique(value_set):
    names = [(one["kind"], one["metadata"]["name"]) for one in rendered(value_set)]
    assert len(names) == len(set(names))


def references(pod):
    """What must be there before a pod of this template can start."""
    found = set()
    if pod.get("serviceAccountName"):
        found.add(("ServiceAccount", pod["serviceAccountName"]))
    for secret in pod.get("imagePullSecrets", []):
        found.add(("Secret", secret["name"]))
    for volume in pod.get("volumes", []):
        if "secret" in volume:
            found.add(("Secret", volume["secret"]["secretName"]))
        if "configMap" in volume:
            found.add(("ConfigMap", volume["configMap"]["name"]))
        for source in volume.get("projected", {}).get("sources", []):
            for kind, key in (("Secret", "secret"), ("ConfigMap", "configMap")):
                if key in source:
                    found.add((kind, source[key]["name"]))
        if "persistentVolumeClaim" in volume:
            found.add(("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]))
    for container in pod.get("initContainers", []) + pod["containers"]:
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {})
            if "secretKeyRef" in source:
                found.add(("Secret", source["secretKeyRef"]["name"]))
            if "configMapKeyRef" in source:
                found.add(("ConfigMap", source["configMapKeyRef"]["name"]))
        for source in container.get("envFrom", []):
            for kind, key in (("Secret", "secretRef"), ("ConfigMap", "configMapRef")):
                if key in source:
                    found.add((kind, source[key]["name"]))
    return found


def phases(objects):
    """The order in which Helm installs: hooks by weight, then everything else."""
    hooks = [o for o in objects if "helm.sh/hook" in o["metadata"].get("annotations", {})]
    rest = [o for o in objects if o not in hooks]
    weight = lambda o: int(o["metadata"]["annotations"].get("helm.sh/hook-weight", "0"))
    for at in sorted({weight(o) for o in hooks}):
        yield [o for o in hooks if weight(o) == at]
    yield rest


def missing_at_install(objects):
    """References to what is not there in the phase that needs it."""
    there = set(BROUGHT)
    missing = []
    for phase in phases(objects):
        there |= {(o["kind"], o["metadata"]["name"]) for o in phase}
        for one, pod in pods(phase):
            for reference in references(pod) - there:
                missing.append((one["metadata"]["name"], reference))
    return missing


def test_an_install_finds_everything_in_its_phase(value_set):
    assert missing_at_install(rendered(value_set, is_install=True)) == []


def test_the_simulator_sees_a_hook_that_comes_too_early():
    objects = rendered(values_of(CHART / "ci" / "hooks.yaml"))
    job = next(o for o in objects if o["kind"] == "Job")
    job["spec"]["template"]["spec"]["serviceAccountName"] = "platform-catalog"
    assert missing_at_install(objects) == [
        (job["metadata"]["name"], ("ServiceAccount", "platform-catalog"))
    ]


def test_the_migration_job_has_a_name_a_revision():
    values = values_of(CHART / "ci" / "split.yaml")
    from helm_python import Chart

    with Chart.load(CHART) as chart:
        texts = [
            "\n".join(chart.render(values=values, name="q", revision=n).values()) for n in (1, 2)
        ]
    names = [re.search(r"name: (\S+-migrate-\d+)", text).group(1) for text in texts]
    assert names == ["q-quarry-migrate-1", "q-quarry-migrate-2"]


def test_pods_are_restricted(value_set):
    for one, pod in pods(rendered(value_set)):
        name = one["metadata"]["name"]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", name
        for container in pod.get("initContainers", []) + pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"]["drop"] == ["ALL"], name
            assert container["resources"]["limits"]["memory"], name


def test_a_selector_finds_its_pods_and_no_others(value_set):
    objects = rendered(value_set)
    labels = {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"] for one, _ in pods(objects)
    }
    for one in objects:
        if one["kind"] == "Service":
            wanted = one["spec"]["selector"]
        elif one["kind"] in ("Deployment", "DaemonSet", "PodDisruptionBudget"):
            wanted = one["spec"]["selector"]["matchLabels"]
        elif one["kind"] == "NetworkPolicy":
            wanted = one["spec"]["podSelector"]["matchLabels"]
        else:
            continue
        found = [name for name, have in labels.items() if wanted.items() <= have.items()]
        assert len(found) == 1, (one["kind"], one["metadata"]["name"], found)


def test_routes_and_scalers_lead_to_objects_of_the_release(value_set):
    objects = rendered(value_set)
    services, deployments = kinds(objects, "Service"), kinds(objects, "Deployment")
    has_port = lambda name, port: any(
        port in (one["port"], one["name"]) for one in services[name]["spec"]["ports"]
    )
    for one in objects:
        spec = one.get("spec", {})
        if one["kind"] in ("GRPCRoute", "HTTPRoute"):
            [parent] = spec["parentRefs"]
            assert parent["name"]
            for rule in spec["rules"]:
                [backend] = rule["backendRefs"]
                assert has_port(backend["name"], backend["port"]), backend
        elif one["kind"] == "Ingress":
            [backend] = [path["backend"]["service"] for path in spec["rules"][0]["http"]["paths"]]
            assert has_port(backend["name"], backend["port"]["name"]), backend
        elif one["kind"] == "HorizontalPodAutoscaler":
            scaled = deployments[spec["scaleTargetRef"]["name"]]
            assert "replicas" not in scaled["spec"], "the autoscaler counts, nobody else"
            assert spec["minReplicas"] <= spec["maxReplicas"]


def test_a_pod_may_drain_before_it_is_killed(value_set):
    """And is not alive by its database: only readiness asks for that."""
    for one, pod in pods(rendered(value_set)):
        if one["kind"] != "Deployment":
            continue
        [container] = pod["containers"]
        variables = {v["name"]: v.get("value") for v in container["env"]}
        drain = [int(variables[f"QUARRY_DRAIN__{part}_SECONDS"]) for part in ("DELAY", "GRACE")]
        # The jobs' end and the last telemetry come after the streams.
        assert pod["terminationGracePeriodSeconds"] >= sum(drain) + 10, one["metadata"]["name"]
        assert drain[0] >= 2 * container["readinessProbe"]["periodSeconds"]
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        strategy = one["spec"]["strategy"]
        if strategy["type"] == "RollingUpdate":
            assert strategy["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_neighbours_are_services_of_the_release(value_set):
    objects = rendered(value_set)
    services = kinds(objects, "Service")
    for one, pod in pods(objects):
        for variable in pod["containers"][0].get("env", []):
            if variable["name"].startswith("QUARRY_NEIGHBOURS__"):
                host = re.fullmatch(r"http://([a-z0-9-]+):7070", variable["value"]).group(1)
                assert host in services, (one["metadata"]["name"], host)


def golden_edges():
    """role → roles it calls, from the table that tests/architecture holds."""
    text = (ROOT / "tests/architecture/edges.golden").read_text()
    rows = {name: set(uses.split()) for name, uses in re.findall(r"^([\w-]+):(.*)$", text, re.M)}
    block = lambda head: re.findall(r"^([\w-]+):", text.split(f"# {head}\n")[1].split("\n\n")[0], re.M)
    rooms = set(block("rooms"))

    def uses_of(name):
        """Of a service with those of its rooms that are crates apart."""
        return rows[name].union(*(uses_of(room) for room in rows[name] & rooms))

    apis = {
        "identity-api": "identity", "catalog-api": "catalog", "items-api": "item-store",
        "vectors-api": "vector-search", "files-api": "file-indexer", "models-api": "model-registry",
    }
    edges = {}
    for role in block("services"):
        uses = uses_of(role)
        edges[role] = {apis[use] for use in uses & set(apis)} - {role}
        if {"access", "caller"} & uses and role != "identity":
            edges[role].add("identity")  # grants and tokens
    edges.pop("quarry")
    edges["vector-search"].add("item-store")  # over Flight, whose client is no crate of ours
    edges["gateway"] = set(edges) - {"gateway"}
    return edges


def test_network_policies_are_the_architectures_edges():
    objects = rendered(values_of(CHART / "ci" / "split.yaml"))
    policies = kinds(objects, "NetworkPolicy")
    role_of = lambda peer: peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
    calls, called = {}, {}
    for name, policy in policies.items():
        role = name.removeprefix("q-quarry-")
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        calls[role] = {
            role_of(peer) for rule in policy["spec"]["egress"] for peer in rule.get("to", [])
            if "podSelector" in peer
        }
        called[role] = {
            role_of(peer) for rule in policy["spec"]["ingress"] for peer in rule.get("from", [])
            if "podSelector" in peer
        }
    calls.pop("migration"), called.pop("migration")
    golden = golden_edges()
    assert {role: calls[role] for role in golden} == golden
    for role in calls:
        assert called[role] == {caller for caller in calls if role in calls[caller]}, role


def test_a_role_sees_its_own_token_alone():
    for one, pod in pods(rendered(values_of(CHART / "ci" / "split.yaml"))):
        for volume in pod["volumes"]:
            if volume["name"] != "service-tokens":
                continue
            role = one["metadata"]["labels"]["app.kubernetes.io/component"]
            keys = {item["key"] for item in volume["secret"]["items"]}
            assert keys == {role} or role == "identity"


def test_a_projected_token_is_of_its_roles_account():
    objects = rendered(values_of(CHART / "ci" / "projected.yaml"))
    accounts = {}
    for one, pod in pods(objects):
        role = one["metadata"]["labels"]["app.kubernetes.io/component"]
        variables = {v["name"]: v.get("value") for v in pod["containers"][0].get("env", [])}
        if role == "identity":
            prefix = "QUARRY_IDENTITY__PROJECTED__ACCOUNTS__"
            known = {n.removeprefix(prefix): v for n, v in variables.items() if n.startswith(prefix)}
            audience = variables["QUARRY_IDENTITY__PROJECTED__AUDIENCE"]
        elif one["kind"] == "Deployment":
            accounts[role] = pod["serviceAccountName"]
            [volume] = [v for v in pod["volumes"] if v["name"] == "service-tokens"]
            [source] = volume["projected"]["sources"]
            token = source["serviceAccountToken"]
            assert token["audience"] == "quarry" and token["expirationSeconds"] >= 600
            [mount] = [m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "service-tokens"]
            file = f"{mount['mountPath']}/{token['path']}"
            assert variables["QUARRY_SERVICE_TOKEN_FILE"] == file, role
    assert audience == "quarry"
    assert {role.replace("-", "_").upper(): f"data:{name}" for role, name in accounts.items()} == known
    assert len(known) == 6


def test_the_agent_reads_each_location_and_calls_the_door_alone():
    objects = rendered(values_of(CHART / "ci" / "projected.yaml"))
    [pod] = [pod for one, pod in pods(objects) if one["kind"] == "DaemonSet"]
    [container] = pod["containers"]
    mounts = {m["mountPath"]: m for m in container["volumeMounts"]}
    hosts = {v["name"]: v["hostPath"]["path"] for v in pod["volumes"]}
    shown = dict(argument.split("=") for argument in container["args"][1:])
    assert set(shown) == {"/data/images", "/data/more"} and set(shown.values()) == set(mounts)
    assert all(mount["readOnly"] is True for mount in mounts.values())
    assert hosts[mounts[shown["/data/more"]]["name"]] == "/srv/more"
    assert pod["securityContext"]["runAsUser"] == 20001 and pod["securityContext"]["runAsNonRoot"] is True
    variables = {v["name"]: v.get("value") for v in container["env"]}
    host, port = variables["QUARRY_SERVER"].removeprefix("http://").split(":")
    ports = kinds(objects, "Service")[host]["spec"]["ports"]
    assert int(port) in [one["port"] for one in ports]
    policies = kinds(objects, "NetworkPolicy")
    assert policies["q-quarry-agent"]["spec"]["ingress"] == []
    gateway = policies["q-quarry-gateway"]["spec"]["ingress"][0]["from"]
    assert any("podSelector" in peer and "namespaceSelector" not in peer for peer in gateway)


def test_no_secret_is_made_or_spelled_out(value_set):
    objects = rendered(value_set)
    assert not kinds(objects, "Secret")
    for one in objects:
        text = yaml.safe_dump(one)
        assert "postgres://" not in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"databse": {}}, "databse"),
        ({"roles": {"items": {}}}, "items"),
        ({"mode": "one"}, "mode"),
        ({"objectStore": {"url": "https://bucket"}}, "url"),
        ({"defaults": {"replicas": 0}}, "replicas"),
        ({"database": {"existingSecret": ""}}, "database.existingSecret"),
        ({"adminToken": {"existingSecret": ""}}, "adminToken.existingSecret"),
        ({"serviceTokens": {"existingSecret": ""}}, "serviceTokens.existingSecret"),
        ({"objectStore": {"url": ""}}, "objectStore.url"),
        ({"roles": {"catalog": {"enabled": False}}}, "roles.catalog.enabled"),
        ({"ingress": {"enabled": True}}, "ingress.host"),
        ({"agent": {"enabled": True}}, "agent.existingSecret"),
        ({"agent": {"enabled": True, "existingSecret": "a"}}, "agent.locations"),
        ({"agent": {"locations": [{"path": "/a"}]}}, "hostPath"),
        ({"serviceTokens": {"existingSecret": "", "projected": {"issuer": "cluster"}}}, "issuer"),
    ],
)
def test_a_wrong_value_is_named(change, said):
    values = copy.deepcopy(values_of(CHART / "ci" / "split.yaml"))
    for key, value in change.items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
    with pytest.raises(HelmError, match=re.escape(said)):
        rendered(values)


def test_two_releases_in_one_namespace_do_not_meet():
    values = values_of(CHART / "ci" / "split.yaml")
    from helm_python import Chart

    names = []
    with Chart.load(CHART) as chart:
        for release in ("blue", "green"):
            files = chart.render(values=values, name=release, namespace="data")
            names.append({
                (one["kind"], one["metadata"]["name"])
                for path, text in files.items() if path.endswith(".yaml")
                for one in yaml.safe_load_all(text) if one
            })
    assert not names[0] & names[1]


def test_the_readme_shows_the_values_as_they_are():
    readme = (CHART / "README.md").read_text()
    assert with_table(readme) == readme, "run tests/deploy/chart_readme.py"
