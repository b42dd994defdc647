{{/* Names. */}}
{{- define "quarry.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What runs as one Deployment: {name, roles, values}, as a YAML list under `items`. */}}
{{- define "quarry.workloads" -}}
items:
{{- if eq .Values.mode "all-in-one" }}
  - name: all
    public: true
    values: {{ mergeOverwrite (deepCopy .Values.defaults) (deepCopy .Values.allInOne) | toJson }}
{{- else }}
{{- range $role := include "quarry.roles" . | fromJsonArray }}
  - name: {{ $role }}
    public: {{ eq $role "gateway" }}
    values: {{ mergeOverwrite (deepCopy $.Values.defaults) (deepCopy (index $.Values.roles $role)) | toJson }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The enabled roles, in the order in which they need each other. */}}
{{- define "quarry.roles" -}}
{{- $roles := list -}}
{{- range $role := list "identity" "catalog" "item-store" "vector-search" "model-registry" "file-indexer" "gateway" -}}
{{- if (index $.Values.roles $role).enabled -}}
{{- $roles = append $roles $role -}}
{{- end -}}
{{- end -}}
{{- toJson $roles -}}
{{- end -}}

{{- define "quarry.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | trunc 63 }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "quarry.labels" -}}
{{ include "quarry.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "quarry.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{/* The settings that every process gets, the migration Job included. */}}
{{- define "quarry.stores" -}}
- name: QUARRY_DATA_DIR
  value: /var/lib/quarry
- name: QUARRY_DATABASE_CONNECTIONS
  value: {{ .Values.database.connections | quote }}
{{- with .Values.database.existingSecret }}
- name: QUARRY_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ . }}, key: {{ $.Values.database.key }}}}
{{- end }}
{{- with .Values.objectStore.url }}
- name: QUARRY_OBJECT_STORE_URL
  value: {{ . | quote }}
{{- end }}
{{- range $name, $value := .Values.objectStore.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* Refuses what would only fail in the cluster. */}}
{{- define "quarry.check" -}}
{{- if not .Values.adminToken.existingSecret -}}
{{- fail "adminToken.existingSecret: name a Secret with a token that claims the admin account" -}}
{{- end -}}
{{- if eq .Values.mode "split" -}}
{{- if not .Values.database.existingSecret -}}
{{- fail "database.existingSecret: name a Secret with a postgres:// URL, or set mode: all-in-one" -}}
{{- end -}}
{{- if not .Values.objectStore.url -}}
{{- fail "objectStore.url: name a bucket (s3://bucket/prefix), or set mode: all-in-one" -}}
{{- end -}}
{{- if not (or .Values.serviceTokens.existingSecret .Values.serviceTokens.projected.issuer) -}}
{{- fail "serviceTokens.existingSecret: name a Secret with one key a role, set serviceTokens.projected.issuer, or set mode: all-in-one" -}}
{{- end -}}
{{- range $role := list "identity" "catalog" "gateway" -}}
{{- if not (index $.Values.roles $role).enabled -}}
{{- fail (printf "roles.%s.enabled: no other role works without it" $role) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "ingress.host: name the host of the public door" -}}
{{- end -}}
{{- if and .Values.gatewayApi.enabled (not .Values.gatewayApi.gateway.name) -}}
{{- fail "gatewayApi.gateway.name: name an existing Gateway" -}}
{{- end -}}
{{- end -}}
