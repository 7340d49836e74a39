{{- define "tollgate.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}
{{- end }}

{{- define "tollgate.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: node
{{- end }}

{{- define "tollgate.redisSelector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: trial-redis
{{- end }}

{{- define "tollgate.commonLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "tollgate.labels" -}}
{{ include "tollgate.selector" . }}
{{ include "tollgate.commonLabels" . }}
{{- end }}

{{/* The name of the ConfigMap with the catalog; "" without one. */}}
{{- define "tollgate.catalog" -}}
{{- if .Values.catalog.existingConfigMap }}{{ .Values.catalog.existingConfigMap }}
{{- else if .Values.catalog.text }}{{ include "tollgate.fullname" . }}-catalog{{ end }}
{{- end }}

{{/* The name of the ConfigMap with Envoy's limits; "" without one. */}}
{{- define "tollgate.envoy" -}}
{{- if .Values.envoy.existingConfigMap }}{{ .Values.envoy.existingConfigMap }}
{{- else if .Values.envoy.files }}{{ include "tollgate.fullname" . }}-envoy{{ end }}
{{- end }}

{{/* Refuses values that are valid each, but not together. */}}
{{- define "tollgate.validate" -}}
{{- $admin := or .Values.secrets.admin_token .Values.secrets.admin_read_token .Values.secrets.admin_access_key_id }}
{{- if and .Values.catalog.text .Values.catalog.existingConfigMap }}
{{- fail "catalog: set text or existingConfigMap, not both" }}
{{- end }}
{{- if and .Values.envoy.files .Values.envoy.existingConfigMap }}
{{- fail "envoy: set files or existingConfigMap, not both" }}
{{- end }}
{{- if and (eq .Values.readinessProbe "grpc") (not (include "tollgate.envoy" .)) }}
{{- fail "readinessProbe: grpc needs Envoy's rate limit service: set envoy.files or envoy.existingConfigMap" }}
{{- end }}
{{- if and (eq .Values.readinessProbe "grpc") .Values.tls.existingSecret }}
{{- fail "readinessProbe: Kubernetes probes gRPC without TLS only: set http, or no tls.existingSecret" }}
{{- end }}
{{- if and .Values.tls.clientAuth (not .Values.tls.existingSecret) }}
{{- fail "tls.clientAuth needs tls.existingSecret" }}
{{- end }}
{{- if and .Values.admin.service (not $admin) }}
{{- fail "admin.service needs a credential: set secrets.admin_token, or secrets.admin_access_key_id and secrets.admin_secret_access_key" }}
{{- end }}
{{- if and .Values.admin.service (not .Values.tls.existingSecret) (not .Values.admin.allowPlaintext) }}
{{- fail "admin.service sends credentials over the network: set tls.existingSecret, or admin.allowPlaintext if something else encrypts it" }}
{{- end }}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) }}
{{- fail "autoscaling.minReplicas is more than autoscaling.maxReplicas" }}
{{- end }}
{{- end }}

{{/* The security context of every container. */}}
{{- define "tollgate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}
