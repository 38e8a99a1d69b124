{{- define "temporaletl.name" -}}
{{- $name := .Release.Name -}}
{{- if not (contains .Chart.Name $name) }}{{ $name = printf "%s-%s" $name .Chart.Name }}{{ end -}}
{{- $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "temporaletl.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "temporaletl.labels" -}}
{{ include "temporaletl.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* What is needed and missing, in words. */}}
{{- define "temporaletl.check" -}}
{{- if not .Values.settings.TEMPORAL_ADDRESS -}}
{{- fail "set settings.TEMPORAL_ADDRESS, the address of your Temporal server" -}}
{{- end -}}
{{- if not (or .Values.settings.WPE_DB_HOST (has "DATABASE_URL" .Values.secret.keys)) -}}
{{- fail "set settings.WPE_DB_HOST, the host of your warehouse, or have DATABASE_URL in secret.keys" -}}
{{- end -}}
{{- if and .Values.secret.keys (not .Values.secret.name) -}}
{{- fail "set secret.name, the Secret that has the keys of secret.keys" -}}
{{- end -}}
{{- if and .Values.migration.secret.keys (not .Values.migration.secret.name) -}}
{{- fail "set migration.secret.name, the Secret that has the keys of migration.secret.keys" -}}
{{- end -}}
{{- end -}}
