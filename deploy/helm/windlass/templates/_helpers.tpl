{{- define "windlass.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* What selects the Pods of one role: (list $ "api"). Without a role: all of this release. */ -}}
{{- define "windlass.selector" -}}
{{- $ := first . -}}
app.kubernetes.io/name: {{ default $.Chart.Name $.Values.nameOverride }}
app.kubernetes.io/instance: {{ $.Release.Name }}
{{- with index . 1 }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "windlass.labels" -}}
{{- $ := first . -}}
{{ include "windlass.selector" . }}
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: windlass
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version }}
{{- end -}}

{{- /* A thing's metadata: (list $ "component" "name"); the name is put behind the release's. */ -}}
{{- define "windlass.metadata" -}}
{{- $ := first . -}}
name: {{ include "windlass.fullname" $ }}{{ with index . 2 }}-{{ . }}{{ end }}
namespace: {{ $.Release.Namespace }}
labels:
  {{- include "windlass.labels" . | nindent 2 }}
{{- end -}}

{{- define "windlass.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "windlass.apiScheme" -}}
{{ ternary "HTTPS" "HTTP" (ne .Values.api.tls.secretName "") }}
{{- end -}}

{{- define "windlass.apiUrl" -}}
{{- /* With TLS by the long name, which the certificate has to name. */ -}}
{{- $host := printf "%s-api" (include "windlass.fullname" .) -}}
{{- if .Values.api.tls.secretName -}}
https://{{ $host }}.{{ .Release.Namespace }}.svc:{{ .Values.api.service.port }}
{{- else -}}
http://{{ $host }}:{{ .Values.api.service.port }}
{{- end -}}
{{- end -}}

{{- /* The settings of every role: the chart's, and the operator's over them. */ -}}
{{- define "windlass.settings" -}}
{{- $ours := dict
  "WINDLASS_API_HOST" "0.0.0.0"
  "WINDLASS_API_URL" (include "windlass.apiUrl" .)
  "WINDLASS_API_CONTAINER_DRIVER" "kubernetes"
  "WINDLASS_LOG_FORMAT" "json"
  "WINDLASS_METRICS_HOST" "0.0.0.0"
  "WINDLASS_METRICS_PORT" "9464"
  "WINDLASS_WORKER_DATA" "/var/lib/windlass/worker"
  "WINDLASS_WORKER_DRIVERS" "kubernetes"
  "WINDLASS_WORKER_KUBERNETES_NAMESPACE" .Values.jobs.namespace
  "WINDLASS_WORKER_ON_EXIT" .Values.worker.onExit
  "WINDLASS_WORKER_DRAIN_DEADLINE_S" (.Values.worker.drainDeadlineSeconds | int | toString)
  "WINDLASS_WORKER_PROFILE" .Values.worker.profile
-}}
{{- with .Values.worker.cpu }}{{ $_ := set $ours "WINDLASS_WORKER_CPU" . }}{{ end -}}
{{- with .Values.worker.memory }}{{ $_ := set $ours "WINDLASS_WORKER_MEMORY" . }}{{ end -}}
{{- toYaml (merge (dict) .Values.settings $ours) -}}
{{- end -}}

{{- /* Secrets as files below /run/windlass, these and no others: (list $ "databaseUrl" ...). */ -}}
{{- define "windlass.secrets" -}}
{{- $ := first . -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- range rest . }}
      {{- $from := index $.Values.secrets . }}
      {{- if $from.name }}
      - secret: {name: {{ $from.name }}, items: [{key: {{ $from.key }}, path: {{ kebabcase . }}}]}
      {{- end }}
      {{- end }}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- end -}}

{{- /* The variables that name such files: databaseUrl is WINDLASS_DATABASE_URL_FILE, databaseCa WINDLASS_DATABASE_CA_FILE. */ -}}
{{- define "windlass.files" -}}
{{- $ := first . -}}
{{- range rest . }}
{{- if (index $.Values.secrets .).name }}
- {name: WINDLASS_{{ snakecase . | upper }}_FILE, value: /run/windlass/{{ kebabcase . }}}
{{- end }}
{{- end }}
{{- end -}}

{{- define "windlass.mounts" -}}
- {name: secrets, mountPath: /run/windlass, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- end -}}

{{- /* What every container of Windlass begins with. */ -}}
{{- define "windlass.container" -}}
image: {{ include "windlass.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
envFrom:
  - configMapRef: {name: {{ include "windlass.fullname" . }}}
{{- end -}}

{{- /* What every Pod of Windlass begins with: (list $ "api" .Values.api). Without service links, for a Service named
windlass-api would set WINDLASS_API_PORT, which is a setting. */ -}}
{{- define "windlass.pod" -}}
{{- $ := first . }}{{ $role := index . 1 }}{{ $own := index . 2 -}}
automountServiceAccountToken: {{ eq $role "worker" }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with $.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if hasKey $own "topologySpreadConstraints" }}
topologySpreadConstraints:
  {{- toYaml $own.topologySpreadConstraints | nindent 2 }}
{{- else }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "windlass.selector" . | nindent 8 }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
{{- with index $own $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* The metadata of a role's Pods. A change of settings makes new ones. */ -}}
{{- define "windlass.podMetadata" -}}
{{- $ := first . }}{{ $own := index . 2 -}}
labels:
  {{- include "windlass.labels" . | nindent 2 }}
  {{- with $own.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  checksum/settings: {{ include "windlass.settings" $ | sha256sum }}
  {{- with $own.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- /* Brings the ledger's schema up to date before a role needs it; any number may try at once. */ -}}
{{- define "windlass.migrate" -}}
- name: migrate
  {{- include "windlass.container" . | nindent 2 }}
  args: [migrate]
  env:
    {{- with include "windlass.files" (list . "databaseUrl" "databaseCa") | trim }}{{ nindent 4 . }}{{ end }}
  resources:
    requests: {cpu: 10m, memory: 64Mi}
    limits: {memory: 256Mi}
  volumeMounts:
    {{- include "windlass.mounts" . | nindent 4 }}
{{- end -}}

{{- /* Probes of a role that has no other page than its metrics. */ -}}
{{- define "windlass.metricsProbes" -}}
startupProbe:
  httpGet: {path: /metrics, port: metrics}
  periodSeconds: 2
  failureThreshold: 90
readinessProbe:
  httpGet: {path: /metrics, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
livenessProbe:
  httpGet: {path: /metrics, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{- /* What no schema can say. */ -}}
{{- define "windlass.check" -}}
{{- with .Values.worker -}}
{{- if .enabled -}}
{{- if eq $.Values.jobs.namespace $.Release.Namespace -}}
{{- fail (printf "jobs.namespace is %s, where Windlass itself runs: the worker, who may make Pods there, could read every Secret. Name another, such as windlass-jobs" $.Values.jobs.namespace) -}}
{{- end -}}
{{- if and $.Values.jobs.quota.enabled (or (gt (int .replicas) 1) (ne .autoscaling.kind "none")) -}}
{{- fail "one worker serves a namespace with a quota: several would each offer its room. Set worker.replicas to 1 and worker.autoscaling.kind to none, or jobs.quota.enabled to false and worker.cpu and worker.memory to what each offers" -}}
{{- end -}}
{{- if and (not $.Values.jobs.quota.enabled) (or (not .cpu) (not .memory)) -}}
{{- fail "without jobs.quota.enabled a worker offers worker.cpu and worker.memory: set both, such as 16 and 64Gi" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if gt (int .Values.worker.autoscaling.min) (int .Values.worker.autoscaling.max) -}}
{{- fail "worker.autoscaling.min is above worker.autoscaling.max" -}}
{{- end -}}
{{- end -}}
