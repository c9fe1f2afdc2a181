{{/* The image, or the sentence that says how to get one. */}}
{{- define "dragoman.image" -}}
{{- if not .Values.image.repository -}}
{{- fail "image.repository is not set: the project's image lies in no public registry. Make and push it with `hack/image --push REGISTRY/dragoman:TAG`, then install with `--set image.repository=REGISTRY/dragoman --set image.tag=TAG`." -}}
{{- end -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "dragoman.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "dragoman.agent" -}}
{{ include "dragoman.name" . }}-agent
{{- end }}

{{- define "dragoman.controller" -}}
{{ include "dragoman.name" . }}-controller
{{- end }}

{{/* Whether there is an admission webhook, and its names. */}}
{{- define "dragoman.webhook" -}}
{{- if and (eq .Values.controller.mode "controller") .Values.controller.webhook.install }}true{{ end -}}
{{- end }}

{{- define "dragoman.webhookName" -}}
{{ include "dragoman.name" . }}-webhook
{{- end }}

{{- define "dragoman.webhookSecret" -}}
{{ .Values.controller.webhook.secret | default (include "dragoman.webhookName" .) }}
{{- end }}

{{/* Labels that select: they never change. Call with (list $ "agent"). */}}
{{- define "dragoman.selector" -}}
app.kubernetes.io/name: dragoman
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "dragoman.labels" -}}
{{ include "dragoman.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version }}
{{- end }}

{{/* Paths of the node that follow from others. */}}
{{- define "dragoman.pluginDir" -}}
{{ .Values.host.pluginDir | default (printf "%s/plugins/dragoman.dev" (.Values.host.kubeletRoot | trimSuffix "/")) }}
{{- end }}
{{- define "dragoman.registrationDir" -}}
{{ .Values.host.registrationDir | default (printf "%s/plugins_registry" (.Values.host.kubeletRoot | trimSuffix "/")) }}
{{- end }}
{{- define "dragoman.podResourcesDir" -}}
{{ .Values.host.podResourcesDir | default (printf "%s/pod-resources" (.Values.host.kubeletRoot | trimSuffix "/")) }}
{{- end }}

{{/* Whether the cards are simulated, in one of the two ways. */}}
{{- define "dragoman.simulated" -}}
{{- if and .Values.simulated.cards .Values.simulated.nodes -}}
{{- fail "simulated.cards and simulated.nodes are both set: give the cards of every node, or those of single nodes." -}}
{{- end -}}
{{- if or .Values.simulated.cards .Values.simulated.nodes }}true{{ end -}}
{{- end }}

{{/* What every container of ours is held to. */}}
{{- define "dragoman.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
