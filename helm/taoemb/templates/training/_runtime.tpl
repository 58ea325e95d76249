{{/* A node of a training job: (list ROOT COMMAND ARGS). */}}
{{- define "taoemb.training.pod" -}}
{{- $root := index . 0 -}}
{{- $training := $root.Values.training -}}
{{- $torchrun := eq (first (index . 1)) "torchrun" -}}
metadata:
  labels:
    app.kubernetes.io/part-of: taoemb
    app.kubernetes.io/component: training
    taoemb.io/judge-client: "true"
spec:
  {{- if $torchrun }}
  restartPolicy: Never
  {{- end }}
  automountServiceAccountToken: false
  {{- with include "taoemb.pullSecrets" $root }}{{ . | nindent 2 }}{{ end }}
  {{- with include "taoemb.placement" (dict "nodeSelector" $training.nodeSelector "tolerations" $training.tolerations) }}{{ . | nindent 2 }}{{ end }}
  securityContext:
    {{- include "taoemb.podSecurity" $root | nindent 4 }}
  containers:
    - name: node
      image: {{ include "taoemb.image" (list $root "trainer") }}
      imagePullPolicy: {{ $root.Values.images.pullPolicy }}
      command: {{ toJson (index . 1) }}
      {{- with index . 2 }}
      args: {{ toJson . }}
      {{- end }}
      env:
        - name: HOME
          value: /tmp
        {{- if $torchrun }}
        # Nodes wait so long (seconds) for the last one's machine and image.
        - name: PET_RDZV_CONF
          value: timeout=3600
        {{- end }}
      {{- if gt (int $training.metricsPort) 0 }}
      ports:
        - name: metrics
          containerPort: {{ $training.metricsPort }}
          protocol: TCP
      {{- end }}
      resources:
        {{- include "taoemb.resources" (list $training.resources $training.gpus $training.gpuResource) | nindent 8 }}
      securityContext:
        {{- include "taoemb.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        {{- include "taoemb.training.mounts" $root | nindent 8 }}
  volumes:
    {{- include "taoemb.training.volumes" $root | nindent 4 }}
{{- end -}}

{{- define "taoemb.training.mounts" -}}
{{ include "taoemb.mount" "settings" }}
{{- range $volume := include "taoemb.training.secrets" . | fromYamlArray }}
{{ include "taoemb.mount" $volume.name }}
{{- end }}
{{- if eq .Values.artefacts.type "pvc" }}
- name: artefacts
  mountPath: /mnt/taoemb
{{- end }}
- name: scratch
  mountPath: /tmp
- name: shared-memory
  mountPath: /dev/shm
{{- end -}}

{{/* Volumes with the secrets that the training settings name. */}}
{{- define "taoemb.training.secrets" -}}
{{- if .Values.milvus.tokenSecret }}
{{ include "taoemb.secretVolume" (list "milvus" .Values.milvus.tokenSecret .Values.milvus.tokenSecretKey "token") }}
{{- end }}
{{- range $key := list "judge" "heldoutJudge" }}
{{- $judge := index $.Values $key }}
{{- if and (eq $judge.mode "external") $judge.apiKeySecret }}
{{ include "taoemb.secretVolume" (list (lower $key) $judge.apiKeySecret $judge.apiKeySecretKey "token") }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "taoemb.training.volumes" -}}
- name: settings
  configMap:
    name: {{ include "taoemb.name" . }}-training-settings
{{- with include "taoemb.training.secrets" . | trim }}
{{ . }}
{{- end }}
{{- if eq .Values.artefacts.type "pvc" }}
- name: artefacts
  persistentVolumeClaim:
    claimName: {{ include "taoemb.claim" . }}
{{- end }}
- name: scratch
  emptyDir:
    sizeLimit: 20Gi
- name: shared-memory
  emptyDir:
    medium: Memory
    sizeLimit: {{ .Values.training.sharedMemory }}
{{- end -}}

{{/* metadata of a runtime: (list ROOT NAME FRAMEWORK). */}}
{{- define "taoemb.training.metadata" -}}
{{- $root := index . 0 -}}
{{- $name := printf "%s-%s" (include "taoemb.name" $root) (index . 1) -}}
{{- if eq $root.Values.training.kind "ClusterTrainingRuntime" -}}
name: {{ $name }}
labels:
  {{- include "taoemb.labels" (list $root "training") | nindent 2 }}
{{- else -}}
{{- include "taoemb.metadata" (list $root $name "training") }}
{{- end }}
  trainer.kubeflow.org/framework: {{ index . 2 }}
{{- end -}}
