{{/*
A pod of one service. Takes a dict: root, service, image, settings, secret, and of the container:
command, args, ports and probes as YAML, resources; grace in seconds; restart.
*/}}
{{- define "temporaletl.pod" -}}
{{- $values := .root.Values -}}
metadata:
  labels:
    {{- include "temporaletl.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .service }}
    {{- with $values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with $values.podAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ .account }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .restart }}
  restartPolicy: {{ . }}
  {{- end }}
  {{- with $values.image.pullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  terminationGracePeriodSeconds: {{ .grace }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 584792
    runAsGroup: 584792
    fsGroup: 584792
    seccompProfile: {type: RuntimeDefault}
  containers:
    - name: {{ .service }}
      image: "{{ $values.image.repository }}-{{ .image }}:{{ $values.image.tag | default .root.Chart.AppVersion }}"
      imagePullPolicy: {{ $values.image.pullPolicy }}
      {{- with .command }}
      command: {{ toJson . }}
      {{- end }}
      {{- with .args }}
      args: {{ toJson . }}
      {{- end }}
      env:
        {{- range $name, $value := .settings }}
        - name: {{ $name }}
          {{- /* Helm reads whole numbers as floats, and would write 1e+06. */}}
          {{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}
          value: {{ int64 $value | quote }}
          {{- else }}
          value: {{ $value | quote }}
          {{- end }}
        {{- end }}
        {{- range .secret.keys }}
        - name: {{ . }}_FILE
          value: /run/secrets/temporaletl/{{ . }}
        {{- end }}
      {{- with .ports }}
      ports: {{- . | nindent 8 }}
      {{- end }}
      {{- with .probes }}
      {{- . | nindent 6 }}
      {{- end }}
      resources: {{- toYaml .resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- if .secret.keys }}
        - {name: secrets, mountPath: /run/secrets/temporaletl, readOnly: true}
        {{- end }}
        {{- if $values.files.configMap }}
        - {name: files, mountPath: /etc/temporaletl, readOnly: true}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {sizeLimit: 1Gi}
    {{- if .secret.keys }}
    - name: secrets
      secret:
        secretName: {{ .secret.name }}
        defaultMode: 0440
        items:
          {{- range .secret.keys }}
          - {key: {{ . }}, path: {{ . }}}
          {{- end }}
    {{- end }}
    {{- if $values.files.configMap }}
    - name: files
      configMap: {name: {{ $values.files.configMap }}}
    {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- if and $values.topologySpread (not .restart) }}
  topologySpreadConstraints:
    {{- range $values.topologySpread }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "temporaletl.selector" $.root | nindent 10 }}
          app.kubernetes.io/component: {{ $.service }}
    {{- end }}
  {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* Probes at a path of readiness and one of liveness, of the port of a name. */}}
{{- define "temporaletl.probes" -}}
startupProbe:
  httpGet: {path: {{ .alive }}, port: {{ .port }}}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: {{ .alive }}, port: {{ .port }}}
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 6
readinessProbe:
  httpGet: {path: {{ .ready }}, port: {{ .port }}}
  periodSeconds: 10
  timeoutSeconds: 10
{{- end -}}
